"""Exact pixel counts of overlapping masks, taken on their crops and never on a full canvas."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refine.types import MaskCrop


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """The pairs of masks of one image that share pixels.

    Attributes:
        areas: ``[N]`` int64 pixels of each mask.
        pairs: ``[K, 2]`` int64 positions ``(i, j)``, ``i < j``, in ascending order.
        intersections: ``[K]`` int64 pixels that both masks of a pair cover, at least 1.
    """

    areas: np.ndarray
    pairs: np.ndarray
    intersections: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """``[K, 2]`` float64 in (0, 1]: the part of mask i, and of mask j, that both cover."""
        shares: np.ndarray = self.intersections[:, None] / self.areas[self.pairs]
        return shares


def pair_overlaps(crops: Sequence[MaskCrop]) -> Overlaps:
    """Compare every mask of an image with every other one."""
    places = _places(crops)
    counts = _count_shared(crops, crops, np.triu(_touches(places, places), 1))
    pairs = np.argwhere(counts)
    return Overlaps(mask_areas(crops), pairs, counts[pairs[:, 0], pairs[:, 1]])


def cross_ious(first: Sequence[MaskCrop], second: Sequence[MaskCrop]) -> np.ndarray:
    """``[N, M]`` float64 IoU of N masks with M masks of the same image; 0 if both are empty."""
    common = _count_shared(first, second, _touches(_places(first), _places(second)))
    union = np.add.outer(mask_areas(first), mask_areas(second)) - common
    ious: np.ndarray = common / np.maximum(union, 1)
    return ious


def mask_areas(crops: Sequence[MaskCrop]) -> np.ndarray:
    """``[N]`` int64 pixels of each mask."""
    return np.array([np.count_nonzero(crop.mask) for crop in crops], np.int64)


def shared_window(a: MaskCrop, b: MaskCrop) -> tuple[slice, slice, np.ndarray]:
    """Find where two crops meet.

    Returns:
        Rows and columns in the full image, and there the ``[h, w]`` bool pixels that both masks
        cover; empty if the crops lie apart.
    """
    top, left = max(a.y, b.y), max(a.x, b.x)
    bottom = max(top, min(a.y + a.mask.shape[0], b.y + b.mask.shape[0]))
    right = max(left, min(a.x + a.mask.shape[1], b.x + b.mask.shape[1]))
    both = (
        a.mask[top - a.y : bottom - a.y, left - a.x : right - a.x]
        & b.mask[top - b.y : bottom - b.y, left - b.x : right - b.x]
    )
    return slice(top, bottom), slice(left, right), both


def _places(crops: Sequence[MaskCrop]) -> np.ndarray:
    """``[N, 4]`` int64: first row and column, last row and column + 1."""
    places = [(c.y, c.x, c.y + c.mask.shape[0], c.x + c.mask.shape[1]) for c in crops]
    return np.array(places, np.int64).reshape(-1, 4)


def _touches(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``[N, M]`` bool: the crops at these places have pixels in common."""
    low = np.maximum(first[:, None, :2], second[:, :2])
    high = np.minimum(first[:, None, 2:], second[:, 2:])
    touches: np.ndarray = (low < high).all(axis=-1)
    return touches


def _count_shared(
    first: Sequence[MaskCrop], second: Sequence[MaskCrop], candidates: np.ndarray
) -> np.ndarray:
    counts = np.zeros(candidates.shape, np.int64)
    for i, j in np.argwhere(candidates).tolist():
        counts[i, j] = np.count_nonzero(shared_window(first[i], second[j])[2])
    return counts
