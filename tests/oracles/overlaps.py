"""Masks as full canvases."""

from itertools import combinations

import numpy as np


def full_mask(crop, size):
    """``[H, W]`` bool."""
    mask = np.zeros(size, bool)
    height, width = crop.mask.shape
    mask[crop.y : crop.y + height, crop.x : crop.x + width] = crop.mask
    return mask


def pair_overlaps(masks):
    """``{(i, j): pixels}`` of every two full masks that share any, ``i < j``."""
    counts = {(i, j): (masks[i] & masks[j]).sum() for i, j in combinations(range(len(masks)), 2)}
    return {pair: int(count) for pair, count in counts.items() if count}


def best_first(fits):
    """``{a: b}`` out of ``(fit, a, b)``: the best fit of all goes first, each is used once."""
    chosen = {}
    for fit, a, b in sorted(fits, key=lambda f: -f[0]):
        if fit > 0 and a not in chosen and b not in chosen.values():
            chosen[a] = b
    return chosen
