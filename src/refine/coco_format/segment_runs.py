"""Segment maps as runs of equal pixels, checked against the segments that the JSON lists.

Only painting the runs touches every pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refine.errors import Report, refuse
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


def find_runs(
    ids: np.ndarray, segments: Sequence[Segment], *, source: str, report: Report = refuse
) -> SegmentRuns:
    """Match a PNG's ``[H, W]`` int32 ids (0 is void) with the segments that the JSON lists for it.

    Messages begin with ``source``. If ``report`` returns, unknown ids are void, and a listed
    segment may have no pixel or another area.

    Raises:
        RefineError: An id of the PNG is not in the JSON, or the reverse; or a segment's stated area
            is not its number of pixels.
    """
    values, lengths = find_label_runs(ids)
    listed = np.array([0, *(s.id for s in segments)], dtype=np.int64)
    order = np.argsort(listed)
    places = order[np.searchsorted(listed, values, sorter=order).clip(max=len(order) - 1)]
    is_unknown = listed[places] != values
    unknown = np.unique(values[is_unknown]).tolist()
    fix = _explain_unknown(ids, listed) if unknown else ""
    for stranger in unknown:
        report("a segment id in the PNG only", f"{source}: segment id {stranger} {fix}")
    places[is_unknown] = 0
    areas = np.bincount(places, weights=lengths, minlength=len(listed)).astype(np.int64)
    for segment, pixels in zip(segments, areas[1:].tolist(), strict=True):
        where = f"{source}: segment id {segment.id}"
        if not pixels:
            fix = "remove it from segments_info or paint it"
            report("a segment id in the JSON only", f"{where} of the JSON has no pixel; {fix}")
        elif segment.area != pixels:
            found = f"the JSON states 'area' {segment.area}, but it has {pixels} pixels"
            report("another area than pixels", f"{where}: {found}; count them in this PNG")
    return SegmentRuns((ids.shape[0], ids.shape[1]), places, lengths)


def _explain_unknown(ids: np.ndarray, listed: np.ndarray) -> str:
    """What to do about a PNG with ids that the JSON does not list."""
    colors = np.unique(ids)
    swapped = (colors & 0xFF) << 16 | colors & 0xFF00 | colors >> 16
    if np.isin(swapped, listed).all():
        return "is not in the JSON, but is with red and blue swapped; save the PNG as RGB, not BGR"
    return "is not in the JSON; add it to segments_info or paint it 0 (void)"
