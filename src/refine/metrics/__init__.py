"""Panoptic quality by panopticapi's rules, and average precision."""
