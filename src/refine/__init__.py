"""REFINE: prediction fusion for panoptic segmentation (Ren et al., AAAI 2021)."""

__version__ = "0.1.0"
