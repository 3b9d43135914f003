"""Annotations in the layouts of other tools and datasets, as segment maps and outlines."""
