"""Losses, and the one place that weighs them."""
