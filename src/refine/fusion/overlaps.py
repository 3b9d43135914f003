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
    counts = _count_shared(crops, crops, np.triu(_touches(crops, crops), 1))
    pairs = np.argwhere(counts)
    return Overlaps(_areas(crops), pairs, counts[pairs[:, 0], pairs[:, 1]])


def cross_ious(first: Sequence[MaskCrop], second: Sequence[MaskCrop]) -> np.ndarray:
    """``[N, M]`` float64 IoU of N masks with M masks of the same image; 0 if both are empty."""
    common = _count_shared(first, second, _touches(first, second))
    union = np.add.outer(_areas(first), _areas(second)) - common
    ious: np.ndarray = common / np.maximum(union, 1)
    return ious


def _areas(crops: Sequence[MaskCrop]) -> np.ndarray:
    return np.array([np.count_nonzero(crop.mask) for crop in crops], np.int64)


def shared_window(a: MaskCrop, b: MaskCrop) -> tuple[slice, slice, np.ndarray]:
    """Rows, columns and ``[h, w]`` bool common pixels of the window where two crops meet."""
    top, left = max(a.y, b.y), max(a.x, b.x)
    bottom = max(top, min(a.y + a.mask.shape[0], b.y + b.mask.shape[0]))
    right = max(left, min(a.x + a.mask.shape[1], b.x + b.mask.shape[1]))
    both = (
        a.mask[top - a.y : bottom - a.y, left - a.x : right - a.x]
        & b.mask[top - b.y : bottom - b.y, left - b.x : right - b.x]
    )
    return slice(top, bottom), slice(left, right), both


def _touches(first: Sequence[MaskCrop], second: Sequence[MaskCrop]) -> np.ndarray:
    """``[N, M]`` bool: the crops have pixels in common."""
    (low, high), (other_low, other_high) = (
        np.array([(c.y, c.x, c.y + c.mask.shape[0], c.x + c.mask.shape[1]) for c in crops], int)
        .reshape(-1, 2, 2)
        .transpose(1, 0, 2)
        for crops in (first, second)
    )
    starts, stops = np.maximum(low[:, None], other_low), np.minimum(high[:, None], other_high)
    touches: np.ndarray = (starts < stops).all(axis=-1)
    return touches


def _count_shared(
    first: Sequence[MaskCrop], second: Sequence[MaskCrop], candidates: np.ndarray
) -> np.ndarray:
    counts = np.zeros(candidates.shape, np.int64)
    for i, j in np.argwhere(candidates).tolist():
        counts[i, j] = np.count_nonzero(shared_window(first[i], second[j])[2])
    return counts
