"""Panoptic PNGs as runs of equal pixels.

A map of some hundred thousand pixels has a few thousand runs, so what is looked up or checked for
each value is done on the runs, and only the painting touches every pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refine.errors import RefineError
from refine.types import MaskCrop, Segment


@dataclass(frozen=True, slots=True, eq=False)
class SegmentRuns:
    """A segment map, row by row in runs that end with their row.

    Attributes:
        shape: ``(height, width)``.
        places: ``[R]`` int64: 0 is void, ``k + 1`` segment ``k`` of the annotation.
        lengths: ``[R]`` int64 pixels.
    """

    shape: tuple[int, int]
    places: np.ndarray
    lengths: np.ndarray

    def paint(self, values: np.ndarray) -> np.ndarray:
        """The map with ``values[place]`` at every pixel: ``[height, width]`` of their dtype."""
        return np.repeat(values[self.places], self.lengths).reshape(self.shape)


def find_runs(ids: np.ndarray, segments: Sequence[Segment], *, source: str) -> SegmentRuns:
    """Match a PNG's ids with the segments of its annotation.

    Args:
        ids: ``[H, W]`` int32 24-bit ids, 0 void.
        segments: With the ids that the JSON lists.
        source: What messages call the PNG.

    Raises:
        RefineError: An id of the PNG is not in the JSON, or the reverse.
    """
    flat = ids.ravel()
    is_end = flat[1:] != flat[:-1]
    is_end[ids.shape[1] - 1 :: ids.shape[1]] = True
    starts = np.concatenate([[0], np.flatnonzero(is_end) + 1])
    values = flat[starts]
    listed = np.array([0, *(s.id for s in segments)], dtype=np.int64)
    order = np.argsort(listed)
    nearest = np.searchsorted(listed, values, sorter=order).clip(max=len(listed) - 1)
    places = order[nearest]
    _check_ids(values, listed, places, source=source)
    shape = (ids.shape[0], ids.shape[1])
    return SegmentRuns(shape, places, np.diff(starts, append=flat.size))


def find_crops(runs: SegmentRuns, places: Sequence[int]) -> list[MaskCrop]:
    """The tight masks of some segments.

    Args:
        runs: The map.
        places: ``k + 1`` for segment ``k``.
    """
    boxes = _find_boxes(runs)
    painted = runs.paint(np.arange(len(boxes), dtype=np.min_scalar_type(len(boxes))))
    crops = []
    for place in places:
        top, left, bottom, right = boxes[place].tolist()
        crops.append(MaskCrop(y=top, x=left, mask=painted[top:bottom, left:right] == place))
    return crops


def _find_boxes(runs: SegmentRuns) -> np.ndarray:
    """``[places, 4]`` top, left, bottom and right of every place."""
    starts = np.cumsum(runs.lengths) - runs.lengths
    rows, columns = np.divmod(starts, runs.shape[1])
    first = np.full((2, runs.places.max() + 1), max(runs.shape))
    last = np.zeros_like(first)
    for axis, low, high in ((0, rows, rows + 1), (1, columns, columns + runs.lengths)):
        np.minimum.at(first[axis], runs.places, low)
        np.maximum.at(last[axis], runs.places, high)
    return np.concatenate([first, last]).T


def _check_ids(values: np.ndarray, listed: np.ndarray, places: np.ndarray, *, source: str) -> None:
    unknown = values[listed[places] != values]
    if len(unknown):
        raise RefineError(
            f"{source}: segment id {unknown[0]} is not in the JSON; add it to segments_info "
            "or paint it 0 (void)"
        )
    absent = np.setdiff1d(listed[1:], values)
    if len(absent):
        raise RefineError(
            f"{source}: segment id {absent[0]} of the JSON has no pixel; remove it from "
            "segments_info or paint it"
        )
