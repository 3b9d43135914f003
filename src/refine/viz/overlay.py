"""Panoptic maps drawn over their images."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from refine.categories import CategoryTable
from refine.fusion.merge import Instance
from refine.metrics.functional import Panoptic
from refine.ops.arrays import find_label_runs
from refine.options import OverlayOptions
from refine.types import PanopticPrediction, Segment
from refine.viz.labels import draw_labels, segment_labels
from refine.viz.palette import look_up, segment_colors
from refine.viz.panels import WHITE, blend, resize_image, resize_map

_CONTOUR = 0.7
_ROWS_A_PASS = 32


def draw_panoptic(
    image: np.ndarray,
    panoptic: Panoptic,
    categories: CategoryTable,
    *,
    labels: bool = True,
    style: OverlayOptions | None = None,
) -> np.ndarray:
    """Tint every segment, draw its contour and, with ``labels``, its name and score.

    A ``style``, where it is given, decides about all of this.
    """
    style = style or OverlayOptions(labels=labels)
    require_size(panoptic, image)
    longest = max(image.shape[:2])
    if style.longest_side_px is not None and longest > style.longest_side_px:
        height, width = (max(1, n * style.longest_side_px // longest) for n in image.shape[:2])
        size = (height, width)
        image, panoptic = resize_image(image, size), resize_panoptic(panoptic, size)
    colors = segment_colors(panoptic, categories)
    rows = {k: row for row, k in enumerate(colors)}
    levels = np.arange(256, dtype=np.uint8)
    table = blend(
        levels, np.array([*colors.values()])[:, :, None], style.opacity
    )  # [ids, RGB, level]
    if style.outlines:
        table = np.concatenate([table, blend(table, np.full_like(table, WHITE[0]), _CONTOUR)])
    drawn = _paint(image, panoptic.segment_map, rows, table)
    return draw_labels(drawn, segment_labels(panoptic, categories)) if style.labels else drawn


def _paint(
    image: np.ndarray, segment_map: np.ndarray, row_of: Mapping[int, int], table: np.ndarray
) -> np.ndarray:
    """Every pixel's colour from a ``[R, 3, 256]`` table: by its segment, channel and level.

    A second half of the table, if it has one, is for the pixels of contours. Some rows at a time,
    as a photograph has millions of pixels.
    """
    drawn, flat = np.empty_like(image), table.ravel()
    starts = look_up(np.arange(segment_map.max(initial=0) + 1), row_of, row_of[0]) * table[0].size
    with_contours = len(table) > len(row_of)
    for top in range(0, len(segment_map), _ROWS_A_PASS):
        band = slice(top, top + _ROWS_A_PASS)
        places = starts[segment_map[band]]
        if with_contours:
            contours = find_contours(segment_map[top : band.stop + 1])[: len(places)]
            places[contours] += len(row_of) * table[0].size
        for channel in range(3):
            places_of_levels = places + channel * table.shape[2] + image[band, :, channel]
            drawn[band, :, channel] = flat[places_of_levels]
    return drawn


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
    values, _ = find_label_runs(cropped.segment_map)
    return keep_segments(cropped, set(values.tolist()))


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
