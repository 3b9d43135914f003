"""Segment maps as runs of equal pixels: only painting them touches every pixel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refine.errors import RefineError
from refine.ops.arrays import find_label_runs, find_run_boxes
from refine.types import MaskCrop, Segment


@dataclass(frozen=True, slots=True, eq=False)
class SegmentRuns:
    """A segment map, row by row in runs that end with their row.

    Attributes:
        shape: ``(height, width)``.
        places: ``[R]`` int64: 0 is void, ``k + 1`` is segment ``k`` of the annotation.
        lengths: ``[R]`` int64 pixels.
    """

    shape: tuple[int, int]
    places: np.ndarray
    lengths: np.ndarray

    def paint(self, values: np.ndarray) -> np.ndarray:
        """The map with ``values[place]`` at every pixel: ``[height, width]`` of their dtype."""
        return np.repeat(values[self.places], self.lengths).reshape(self.shape)

    def find_crops(self, places: Sequence[int]) -> list[MaskCrop]:
        """The tight masks of the segments at these places (``k + 1`` for segment ``k``)."""
        boxes = find_run_boxes(self.places, self.lengths, self.shape)
        painted = self.paint(np.arange(len(boxes), dtype=np.min_scalar_type(len(boxes))))
        crops = []
        for place in places:
            top, left, bottom, right = boxes[place].tolist()
            crops.append(MaskCrop(y=top, x=left, mask=painted[top:bottom, left:right] == place))
        return crops


def find_runs(ids: np.ndarray, segments: Sequence[Segment], *, source: str) -> SegmentRuns:
    """Match a PNG's ``[H, W]`` int32 ids (0 is void) with the segments that the JSON lists for it.

    Raises:
        RefineError: An id of the PNG is not in the JSON, or the reverse.
    """
    values, lengths = find_label_runs(ids)
    listed = np.array([0, *(s.id for s in segments)], dtype=np.int64)
    order = np.argsort(listed)
    places = order[np.searchsorted(listed, values, sorter=order).clip(max=len(order) - 1)]
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
    return SegmentRuns((ids.shape[0], ids.shape[1]), places, lengths)
