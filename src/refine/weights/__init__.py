"""Published weights: found by name, read without running code, renamed, checked, loaded.

Every format ends as one :class:`Weights`: torchvision's names, RGB, and what must travel along.
"""

from refine.weights.formats import CONVERTERS, read_content, read_weights
from refine.weights.load import load_backbone_weights
from refine.weights.sources import locate_weights
from refine.weights.stored import PixelStats, Weights, apply_pixel_stats, save_weights

__all__ = [
    "CONVERTERS",
    "PixelStats",
    "Weights",
    "apply_pixel_stats",
    "load_backbone_weights",
    "locate_weights",
    "read_content",
    "read_weights",
    "save_weights",
]
