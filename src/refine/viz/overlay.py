"""Panoptic maps drawn over their images."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from refine.categories import CategoryTable
from refine.fusion.merge import Instance
from refine.metrics.functional import Panoptic
from refine.types import PanopticPrediction, Segment
from refine.viz.labels import draw_labels, segment_labels
from refine.viz.palette import VOID_COLOR, look_up, segment_colors
from refine.viz.panels import WHITE, blend, resize_map

_TINT = 0.55
_CONTOUR = 0.7


def draw_panoptic(
    image: np.ndarray, panoptic: Panoptic, categories: CategoryTable, *, labels: bool = True
) -> np.ndarray:
    """Tint every segment, draw its contour and, with ``labels``, its name and score."""
    require_size(panoptic, image)
    colors = segment_colors(panoptic, categories)
    drawn = blend(image, look_up(panoptic.segment_map, colors, VOID_COLOR), _TINT)
    contours = find_contours(panoptic.segment_map)
    drawn[contours] = blend(drawn[contours], np.array(WHITE, np.uint8), _CONTOUR)
    return draw_labels(drawn, segment_labels(panoptic, categories)) if labels else drawn


def find_contours(segment_map: np.ndarray) -> np.ndarray:
    """``[H, W]`` bool: pixels whose right or lower neighbour belongs to another segment."""
    contours = np.zeros(segment_map.shape, bool)
    contours[:, :-1] |= segment_map[:, :-1] != segment_map[:, 1:]
    contours[:-1] |= segment_map[:-1] != segment_map[1:]
    return contours


def resize_panoptic(panoptic: Panoptic, size: tuple[int, int]) -> Panoptic:
    """The same segments at another ``(height, width)``."""
    return replace(panoptic, segment_map=resize_map(panoptic.segment_map, size))


def crop_panoptic(panoptic: Panoptic, window: tuple[slice, slice]) -> Panoptic:
    """The rows and columns of ``window``, with the segments that are visible there."""
    cropped = replace(panoptic, segment_map=panoptic.segment_map[window])
    return keep_segments(cropped, np.unique(cropped.segment_map).tolist())


def keep_segments(panoptic: Panoptic, ids: Collection[int]) -> Panoptic:
    """The segments with these ids; the pixels of all others become void."""
    shown = np.isin(panoptic.segment_map, list(ids))
    return replace(
        panoptic,
        segment_map=np.where(shown, panoptic.segment_map, 0),
        segments=tuple(s for s in panoptic.segments if s.id in ids),
    )


def stack_instances(instances: Sequence[Instance], size: tuple[int, int]) -> PanopticPrediction:
    """Instances over each other, the first one on top, numbered from 1; hidden ones are left out.

    ``size`` is the ``(height, width)`` of the image.
    """
    numbered = list(enumerate(instances, start=1))
    segment_map = np.zeros(size, np.int32)
    for k, instance in reversed(numbered):
        segment_map[instance.crop.slices][instance.crop.mask] = k
    areas = np.bincount(segment_map.ravel(), minlength=len(instances) + 1).tolist()
    segments = tuple(
        Segment(id=k, category=i.label, is_thing=True, area=areas[k], score=i.score)
        for k, i in numbered
        if areas[k]
    )
    return PanopticPrediction(segment_map=segment_map, segments=segments)


def require_size(panoptic: Panoptic, image: np.ndarray) -> None:
    """Raise a ``ValueError`` if a segment map has another size than its image."""
    expected = (*panoptic.segment_map.shape, 3)
    if image.shape != expected:
        raise ValueError(
            f"image of shape {image.shape}: expected {expected}, the size of the segment map"
        )
