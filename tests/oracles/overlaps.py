"""Masks as full canvases."""

import numpy as np


def full_mask(crop, size):
    """``[H, W]`` bool."""
    mask = np.zeros(size, bool)
    for row in range(crop.mask.shape[0]):
        for column in range(crop.mask.shape[1]):
            mask[crop.y + row, crop.x + column] = crop.mask[row, column]
    return mask


def pair_overlaps(masks):
    """``{(i, j): pixels}`` of every two full masks that share any, ``i < j``."""
    counts = {}
    for i in range(len(masks)):
        for j in range(i + 1, len(masks)):
            common = int((masks[i] & masks[j]).sum())
            if common:
                counts[i, j] = common
    return counts
