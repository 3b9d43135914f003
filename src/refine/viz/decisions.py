"""Which of two overlapping instances was put on top, pair by pair."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refine.categories import CategoryTable
from refine.types import GroundTruth, PanopticPrediction, Segment
from refine.viz.files import resize_image
from refine.viz.iterations import DrawnInstance
from refine.viz.labels import draw_labels
from refine.viz.overlay import Panoptic, draw_panoptic, find_contours, segment_labels
from refine.viz.palette import Color, segment_colors
from refine.viz.panels import WHITE, add_caption, join_panels, resize_map

_TILE_PX = 256
_MARGIN_FRAC = 0.15
_MIN_WINDOW_PX = 16
_LOWER_ID, _UPPER_ID = 1, 2
_VERDICTS: dict[bool | None, tuple[str, Color]] = {
    True: ("right", (90, 210, 110)),
    False: ("wrong", (235, 64, 52)),
    None: ("truth unknown", (170, 170, 170)),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decision:
    """One answered pair.

    Attributes:
        upper: The instance that was put on top.
        lower: The one below it.
        reason: What the decision rests on, in a few words.
        is_right: Whether the ground truth agrees; None if it does not say.
    """

    upper: DrawnInstance
    lower: DrawnInstance
    reason: str
    is_right: bool | None


def draw_decisions(
    image: np.ndarray,
    decisions: Sequence[Decision],
    categories: CategoryTable,
    *,
    truth: GroundTruth | None = None,
) -> np.ndarray:
    """A row a pair: the two instances as they were stacked, and the ground truth there.

    The outline of the lower instance is drawn through the upper one, so that the pixels which the
    decision is about are seen.

    Args:
        image: ``[H, W, 3]`` uint8 RGB at original size.
        decisions: At least one.
        categories: The dataset's categories.
        truth: Of the image; without it a row shows the decision alone.

    Returns:
        ``[H', W', 3]`` uint8.

    Raises:
        ValueError: No decisions, or a ground truth of another size than the image.
    """
    if not decisions:
        raise ValueError("no decisions to draw")
    if truth is not None and truth.segment_map.shape != image.shape[:2]:
        raise ValueError(f"a truth of {truth.segment_map.shape}: expected {image.shape[:2]}")
    rows = [_draw_row(image, decision, categories, truth=truth) for decision in decisions]
    return join_panels(rows, axis=0)


def _draw_row(
    image: np.ndarray, decision: Decision, categories: CategoryTable, *, truth: GroundTruth | None
) -> np.ndarray:
    window = _find_window(decision, image.shape[:2])
    cropped = image[window]
    size = _tile_size(cropped.shape[0], cropped.shape[1])
    cropped = resize_image(cropped, size)
    masks = [resize_map(_paint(i, image.shape[:2])[window], size) for i in _pair(decision)]
    tiles = [_draw_stack(cropped, decision, masks, categories=categories)]
    if truth is not None:
        there = _crop_truth(truth, resize_map(truth.segment_map[window], size))
        tiles.append(draw_panoptic(cropped, there, categories))
    row = join_panels([_pad(tile) for tile in tiles], axis=1)
    verdict, color = _VERDICTS[decision.is_right]
    row = add_caption(row, {verdict: color, decision.reason: WHITE})
    upper, lower = (categories[i.label].name for i in (decision.upper, decision.lower))
    return add_caption(row, {f"{upper} over {lower}": WHITE})


def _pair(decision: Decision) -> tuple[DrawnInstance, DrawnInstance]:
    return decision.lower, decision.upper


def _find_window(decision: Decision, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns around both masks."""
    window = []
    for axis in (0, 1):
        spans = [i.crop.slices[axis] for i in _pair(decision)]
        start, stop = min(s.start for s in spans), max(s.stop for s in spans)
        margin = max(_MARGIN_FRAC * (stop - start), (_MIN_WINDOW_PX - (stop - start)) / 2)
        window.append(slice(max(0, int(start - margin)), min(size[axis], int(stop + margin) + 1)))
    return window[0], window[1]


def _tile_size(height: int, width: int) -> tuple[int, int]:
    scale = _TILE_PX / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _paint(instance: DrawnInstance, size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[instance.crop.slices] = instance.crop.mask
    return mask


def _draw_stack(
    image: np.ndarray,
    decision: Decision,
    masks: Sequence[np.ndarray],
    *,
    categories: CategoryTable,
) -> np.ndarray:
    lower, upper = masks
    stacked = _stack(decision, lower, upper)
    drawn = draw_panoptic(image, stacked, categories, labels=False)
    colors = segment_colors(stacked.segment_map, stacked.segments, categories)
    hidden = find_contours(lower.astype(np.uint8)) & upper
    drawn[hidden] = colors[_LOWER_ID]
    return draw_labels(drawn, segment_labels(stacked, categories))


def _stack(decision: Decision, lower: np.ndarray, upper: np.ndarray) -> PanopticPrediction:
    segment_map = np.where(upper, _UPPER_ID, np.where(lower, _LOWER_ID, 0)).astype(np.int32)
    parts = ((_LOWER_ID, decision.lower), (_UPPER_ID, decision.upper))
    segments = tuple(
        Segment(
            id=k,
            category=instance.label,
            is_thing=True,
            area=int(np.count_nonzero(segment_map == k)),
            score=instance.score,
        )
        for k, instance in parts
    )
    return PanopticPrediction(segment_map=segment_map, segments=segments)


def _crop_truth(truth: GroundTruth, segment_map: np.ndarray) -> Panoptic:
    there = set(np.unique(segment_map).tolist())
    segments = tuple(s for s in truth.segments if s.id in there)
    return GroundTruth(segment_map=segment_map, segments=segments)


def _pad(tile: np.ndarray) -> np.ndarray:
    """The tile with dark margins left and right, so that all are equally wide."""
    missing = _TILE_PX - tile.shape[1]
    return np.pad(tile, [(0, 0), (missing // 2, missing - missing // 2), (0, 0)])
