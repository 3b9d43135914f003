"""Generated scenes with their true panoptic maps and depth order."""
