"""Prediction beside ground truth: where they differ pixel by pixel and segment by segment."""

import numpy as np

from refine.categories import CategoryTable
from refine.metrics.functional import Panoptic, find_segment_errors
from refine.types import GroundTruth, PanopticPrediction
from refine.viz.labels import draw_labels, segment_labels
from refine.viz.overlay import (
    draw_panoptic,
    find_contours,
    keep_segments,
    require_size,
    resize_panoptic,
)
from refine.viz.palette import Color, look_up
from refine.viz.panels import (
    WHITE,
    add_caption,
    blend,
    fit_size,
    join_panels,
    resize_image,
    resize_map,
    to_grey,
)

RED: Color = (235, 64, 52)
YELLOW: Color = (250, 200, 40)
BLUE: Color = (70, 140, 255)

RIGHT, WRONG_CATEGORY, WRONG_INSTANCE, MISSED, NOT_JUDGED = range(5)
"""What :func:`compare_pixels` says of a pixel."""

_PIXEL_ERRORS = {
    WRONG_CATEGORY: ("wrong category", RED),
    WRONG_INSTANCE: ("wrong instance", YELLOW),
    MISSED: ("missed", BLUE),
}
_STRIPE_PX = 8


def draw_pixel_comparison(
    image: np.ndarray, truth: GroundTruth, prediction: PanopticPrediction, categories: CategoryTable
) -> np.ndarray:
    """Image, ground truth, prediction and the errors of :func:`compare_pixels`, side by side."""
    image, overlays = _draw_overlays(image, truth, prediction, categories)
    errors = resize_map(compare_pixels(truth, prediction), image.shape[:2])
    drawn = np.where((errors == NOT_JUDGED)[..., None], to_grey(image, 0.3), to_grey(image, 0.75))
    for kind, (_, color) in _PIXEL_ERRORS.items():
        drawn[errors == kind] = blend(drawn[errors == kind], np.array(color), 0.65)
    first = add_caption(image, {"image": WHITE})
    return join_panels([first, *overlays, add_caption(drawn, dict(_PIXEL_ERRORS.values()))], axis=1)


def draw_segment_comparison(
    image: np.ndarray,
    truth: GroundTruth,
    prediction: PanopticPrediction,
    categories: CategoryTable,
    *,
    max_side_px: int = 640,
) -> np.ndarray:
    """Ground truth, prediction and the segments that cost panoptic quality, side by side.

    The last panel shows false positives in red and missed segments in blue, both in stripes where
    they overlap, and the rest in grey. No side of a panel is longer than ``max_side_px``.
    """
    image, overlays = _draw_overlays(image, truth, prediction, categories, max_side_px)
    size = image.shape[:2]
    wrong_ids, missed_ids = find_segment_errors(prediction, truth)
    wrong = keep_segments(resize_panoptic(prediction, size), wrong_ids)
    missed = keep_segments(resize_panoptic(truth, size), missed_ids)
    is_missed = missed.segment_map > 0
    is_stripe = np.indices(size).sum(axis=0) // _STRIPE_PX % 2 == 0
    is_red = (wrong.segment_map > 0) & (~is_missed | is_stripe)
    drawn = to_grey(image, 0.6)
    for mask, color in ((is_red, RED), (is_missed & ~is_red, BLUE)):
        drawn[mask] = blend(drawn[mask], np.array(color), 0.6)
    for panoptic, color in ((missed, BLUE), (wrong, RED)):
        drawn[find_contours(panoptic.segment_map)] = color
    labels = [*segment_labels(wrong, categories), *segment_labels(missed, categories)]
    drawn = draw_labels(drawn, sorted(labels, key=lambda label: -label.area))
    captions = {f"false positives: {len(wrong_ids)}": RED, f"missed: {len(missed_ids)}": BLUE}
    return join_panels([*overlays, add_caption(drawn, captions)], axis=1)


def compare_pixels(truth: GroundTruth, prediction: PanopticPrediction) -> np.ndarray:
    """Where a prediction disagrees with the ground truth, pixel by pixel.

    Unlike PQ this does not ask whether two segments overlap enough. A true and a predicted instance
    belong together if each is the other's largest overlap within their category; a pixel of the
    right category is of the wrong instance if its two segments do not belong together. On a crowd
    the category is enough.

    The result is ``[H, W]`` uint8: RIGHT, WRONG_CATEGORY, WRONG_INSTANCE, MISSED (predicted void)
    or NOT_JUDGED (true void).
    """
    true_categories, pred_categories = (
        look_up(p.segment_map, {s.id: s.category for s in p.segments}, -1)
        for p in (truth, prediction)
    )
    errors = np.full(true_categories.shape, WRONG_CATEGORY, np.uint8)
    errors[pred_categories < 0] = MISSED
    same = true_categories == pred_categories
    errors[same] = np.where(_belong_together(truth, prediction, same), RIGHT, WRONG_INSTANCE)
    errors[true_categories < 0] = NOT_JUDGED
    return errors


def _belong_together(
    truth: GroundTruth, prediction: PanopticPrediction, where: np.ndarray
) -> np.ndarray:
    """``[n]`` bool for the n pixels of ``where``, whose two segments have the same category."""
    pairs = np.stack([truth.segment_map[where], prediction.segment_map[where]], axis=1)
    pairs, index, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    ascending = pairs[np.argsort(-counts, kind="stable")[::-1]].tolist()  # the largest ones last
    best_of_true = dict(ascending)
    best_of_pred = {pred_id: true_id for true_id, pred_id in ascending}
    crowds = {s.id for s in truth.segments if s.is_crowd}
    together = [
        a in crowds or (best_of_true[a] == b and best_of_pred[b] == a) for a, b in pairs.tolist()
    ]
    return np.array(together, bool)[index.ravel()]


def _draw_overlays(
    image: np.ndarray,
    truth: GroundTruth,
    prediction: PanopticPrediction,
    categories: CategoryTable,
    max_side_px: int = 4096,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The image at a size that can be read, and captioned panels of truth and prediction."""
    resized = resize_image(image, fit_size(*image.shape[:2], max_side_px=max_side_px))
    overlays = []
    panoptics: dict[str, Panoptic] = {"ground truth": truth, "prediction": prediction}
    for name, panoptic in panoptics.items():
        require_size(panoptic, image)
        drawn = draw_panoptic(resized, resize_panoptic(panoptic, resized.shape[:2]), categories)
        overlays.append(add_caption(drawn, {name: WHITE}))
    return resized, overlays
