"""Overlapping pairs of instances and which of them lies on top."""
