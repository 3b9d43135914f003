"""Configuration: where it lives, how it is composed, and how it becomes options."""

from refine.config.composition import compose

__all__ = ["compose"]
