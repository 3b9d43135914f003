"""Ground truth, prediction, and the segments that cost panoptic quality, side by side."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from refine.categories import CategoryTable
from refine.types import GroundTruth, PanopticPrediction
from refine.viz.files import resize_image
from refine.viz.labels import draw_labels
from refine.viz.overlay import Panoptic, draw_panoptic, find_contours, segment_labels
from refine.viz.palette import Color
from refine.viz.panels import WHITE, add_caption, blend, find_fit, join_panels, resize_map

FALSE_POSITIVE: Color = (235, 64, 52)
MISSED: Color = (70, 140, 255)
_SHADED = 0.6
_MARK = 0.6
_STRIPE_PX = 8


def draw_error_triptych(
    image: np.ndarray,
    truth: GroundTruth,
    prediction: PanopticPrediction,
    categories: CategoryTable,
    *,
    wrong: Collection[int],
    missed: Collection[int],
    max_side_px: int = 640,
) -> np.ndarray:
    """Ground truth | prediction | errors.

    The third panel shows what the metric counts, segment by segment: predicted segments that match
    nothing in red, true ones that nothing matches in blue, both colours in stripes where the two
    lie on one another, and the rest in grey. The same input always gives the same picture.

    Args:
        image: ``[H, W, 3]`` uint8 RGB at original size.
        truth: Its ground truth.
        prediction: Its prediction.
        categories: The dataset's categories.
        wrong: Ids of predicted segments: the false positives.
        missed: Ids of true segments that were missed.
        max_side_px: No side of a panel is longer; small images are enlarged.

    Returns:
        ``[H', W', 3]`` uint8.

    Raises:
        ValueError: Image and segment maps differ in size.
    """
    size = find_fit(*image.shape[:2], max_side_px=max_side_px)
    for panoptic in (truth, prediction):
        if panoptic.segment_map.shape != image.shape[:2]:
            raise ValueError(f"a segment map of {panoptic.segment_map.shape}: {image.shape[:2]}")
    image = resize_image(image, size)
    truth = replace(truth, segment_map=resize_map(truth.segment_map, size))
    prediction = replace(prediction, segment_map=resize_map(prediction.segment_map, size))
    words = {
        f"false positives: {len(wrong)}": FALSE_POSITIVE,
        f"missed: {len(missed)}": MISSED,
    }
    errors = _draw_errors(
        image,
        _Marked(prediction, frozenset(wrong)),
        _Marked(truth, frozenset(missed)),
        categories=categories,
    )
    panels = [
        add_caption(draw_panoptic(image, truth, categories), {"ground truth": WHITE}),
        add_caption(draw_panoptic(image, prediction, categories), {"prediction": WHITE}),
        add_caption(errors, words),
    ]
    return join_panels(panels, axis=1)


@dataclass(frozen=True, slots=True)
class _Marked:
    """A panoptic map and the segments to show of it."""

    panoptic: Panoptic
    ids: frozenset[int]

    @property
    def mask(self) -> np.ndarray:
        return np.isin(self.panoptic.segment_map, list(self.ids))

    @property
    def chosen(self) -> Panoptic:
        """The map with the marked segments alone."""
        segments = tuple(s for s in self.panoptic.segments if s.id in self.ids)
        shown = np.where(self.mask, self.panoptic.segment_map, 0)
        return replace(self.panoptic, segment_map=shown, segments=segments)


def _draw_errors(
    image: np.ndarray, wrong: _Marked, missed: _Marked, *, categories: CategoryTable
) -> np.ndarray:
    rows, columns = np.indices(image.shape[:2])
    stripes = (rows + columns) // _STRIPE_PX % 2 == 0
    shows_wrong = wrong.mask & (~missed.mask | stripes)
    shows_missed = missed.mask & ~shows_wrong
    drawn = np.repeat(image.mean(axis=2, keepdims=True) * _SHADED, 3, axis=2).astype(np.uint8)
    for mask, color in ((shows_wrong, FALSE_POSITIVE), (shows_missed, MISSED)):
        drawn[mask] = blend(drawn[mask], np.array(color, np.uint8), _MARK)
    for marked, color in ((missed, MISSED), (wrong, FALSE_POSITIVE)):
        drawn[find_contours(marked.chosen.segment_map)] = color
    labels = [label for m in (wrong, missed) for label in segment_labels(m.chosen, categories)]
    return draw_labels(drawn, sorted(labels, key=lambda label: -label.area))
