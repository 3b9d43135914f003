"""Panoptic maps over their images; prediction beside ground truth."""

from dataclasses import replace

import numpy as np

from refine.categories import CategoryTable
from refine.types import GroundTruth, PanopticPrediction, Segment
from refine.viz.labels import Label, draw_labels, find_inner_point
from refine.viz.palette import Color, paint, segment_colors
from refine.viz.panels import (
    WHITE,
    add_caption,
    blend,
    enlarge_image,
    enlarge_map,
    find_enlargement,
    join_panels,
)

Panoptic = GroundTruth | PanopticPrediction

RIGHT, WRONG_CATEGORY, WRONG_INSTANCE, MISSED, NOT_JUDGED = range(5)
"""What :func:`compare_pixels` says of a pixel."""

_ERROR_COLORS: dict[int, Color] = {
    WRONG_CATEGORY: (235, 64, 52),
    WRONG_INSTANCE: (250, 200, 40),
    MISSED: (70, 140, 255),
}
_ERROR_WORDS = {
    "wrong category": _ERROR_COLORS[WRONG_CATEGORY],
    "wrong instance": _ERROR_COLORS[WRONG_INSTANCE],
    "missed": _ERROR_COLORS[MISSED],
}
_TINT = 0.55


def draw_panoptic(
    image: np.ndarray, panoptic: Panoptic, categories: CategoryTable, *, labels: bool = True
) -> np.ndarray:
    """Tint every segment, draw its contour and, if wanted, its name.

    Args:
        image: ``[H, W, 3]`` uint8 RGB at the size of the segment map.
        panoptic: A prediction or the ground truth.
        categories: The dataset's categories.
        labels: Write category names, with the score of predicted instances.

    Returns:
        ``[H, W, 3]`` uint8.

    Raises:
        ValueError: Image and segment map differ in size.
    """
    _check_sizes(image, panoptic)
    colors = segment_colors(panoptic.segment_map, panoptic.segments, categories)
    drawn = blend(image, paint(panoptic.segment_map, colors), _TINT)
    contours = find_contours(panoptic.segment_map)
    drawn[contours] = blend(drawn[contours], np.full(3, 255, np.uint8), 0.7)
    return draw_labels(drawn, segment_labels(panoptic, categories)) if labels else drawn


def draw_triptych(
    image: np.ndarray, truth: GroundTruth, prediction: PanopticPrediction, categories: CategoryTable
) -> np.ndarray:
    """Image, ground truth, prediction and errors side by side, each with a caption.

    Errors are those of :func:`compare_pixels`. Small images are enlarged by a whole number, so
    that a panel is at least 384 pixels wide.

    Args:
        image: ``[H, W, 3]`` uint8 RGB at original size.
        truth: Its ground truth.
        prediction: Its prediction.
        categories: The dataset's categories.

    Returns:
        ``[H', W', 3]`` uint8.

    Raises:
        ValueError: Image and segment maps differ in size.
    """
    _check_sizes(image, truth)
    _check_sizes(image, prediction)
    factor = find_enlargement(*image.shape[:2])
    image, truth, prediction = (
        enlarge_image(image, factor),
        replace(truth, segment_map=enlarge_map(truth.segment_map, factor)),
        replace(prediction, segment_map=enlarge_map(prediction.segment_map, factor)),
    )
    panels = [
        add_caption(image, {"image": WHITE}),
        add_caption(draw_panoptic(image, truth, categories), {"ground truth": WHITE}),
        add_caption(draw_panoptic(image, prediction, categories), {"prediction": WHITE}),
        add_caption(_draw_errors(image, truth, prediction), _ERROR_WORDS),
    ]
    return join_panels(panels, axis=1)


def compare_pixels(truth: GroundTruth, prediction: PanopticPrediction) -> np.ndarray:
    """Where a prediction disagrees with the ground truth, pixel by pixel.

    Unlike PQ this does not ask whether a pair of segments overlaps enough. A true and a predicted
    instance belong together if each is the other's largest overlap within their category; a pixel
    of the right category is of the wrong instance if its two segments do not belong together. On a
    crowd the category is enough.

    Args:
        truth: The ground truth.
        prediction: A prediction of the same size.

    Returns:
        ``[H, W]`` uint8: RIGHT, WRONG_CATEGORY, WRONG_INSTANCE, MISSED (predicted void) or
        NOT_JUDGED (true void).
    """
    true_categories = _category_map(truth)
    pred_categories = _category_map(prediction)
    errors = np.full(true_categories.shape, WRONG_CATEGORY, np.uint8)
    errors[pred_categories < 0] = MISSED
    same = true_categories == pred_categories
    errors[same] = np.where(_belong_together(truth, prediction, same), RIGHT, WRONG_INSTANCE)
    errors[true_categories < 0] = NOT_JUDGED
    return errors


def _belong_together(
    truth: GroundTruth, prediction: PanopticPrediction, where: np.ndarray
) -> np.ndarray:
    """``[n]`` bool for the n pixels of ``where``, whose two segments have one category."""
    pairs = np.stack([truth.segment_map[where], prediction.segment_map[where]], axis=1)
    pairs, index, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    best_of_true: dict[int, int] = {}
    best_of_pred: dict[int, int] = {}
    for true_id, pred_id in pairs[np.argsort(-counts, kind="stable")].tolist():
        best_of_true.setdefault(true_id, pred_id)
        best_of_pred.setdefault(pred_id, true_id)
    crowds = {s.id for s in truth.segments if s.is_crowd}
    together = [
        a in crowds or (best_of_true[a] == b and best_of_pred[b] == a) for a, b in pairs.tolist()
    ]
    return np.array(together, bool)[index.ravel()]


def _category_map(panoptic: Panoptic) -> np.ndarray:
    """``[H, W]`` contiguous category, -1 for void."""
    ids, index = np.unique(panoptic.segment_map, return_inverse=True)
    category_of = {s.id: s.category for s in panoptic.segments}
    table = np.array([category_of.get(k, -1) for k in ids.tolist()])
    return table[index.reshape(panoptic.segment_map.shape)]


def _draw_errors(
    image: np.ndarray, truth: GroundTruth, prediction: PanopticPrediction
) -> np.ndarray:
    errors = compare_pixels(truth, prediction)
    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    drawn = (grey * np.where(errors == NOT_JUDGED, 0.3, 0.75)[..., None]).astype(np.uint8)
    for kind, color in _ERROR_COLORS.items():
        drawn[errors == kind] = blend(drawn[errors == kind], np.array(color, np.uint8), 0.65)
    return drawn


def segment_labels(panoptic: Panoptic, categories: CategoryTable) -> list[Label]:
    """A label a segment, the large ones first."""
    labels = []
    for segment in panoptic.segments:
        mask = panoptic.segment_map == segment.id
        if area := int(np.count_nonzero(mask)):
            y, x = find_inner_point(mask)
            labels.append(Label(_describe(segment, categories), y=y, x=x, area=area))
    return sorted(labels, key=lambda label: -label.area)


def _describe(segment: Segment, categories: CategoryTable) -> str:
    name = categories[segment.category].name
    if segment.is_crowd:
        return f"{name} (crowd)"
    return f"{name} {segment.score:.2f}" if segment.score < 1 else name


def find_contours(segment_map: np.ndarray) -> np.ndarray:
    """``[H, W]`` bool: pixels whose right or lower neighbour is of another segment."""
    contours = np.zeros(segment_map.shape, bool)
    contours[:, :-1] |= segment_map[:, :-1] != segment_map[:, 1:]
    contours[:-1] |= segment_map[:-1] != segment_map[1:]
    return contours


def _check_sizes(image: np.ndarray, panoptic: Panoptic) -> None:
    if image.shape != (*panoptic.segment_map.shape, 3):
        raise ValueError(
            f"image of shape {image.shape}: expected {(*panoptic.segment_map.shape, 3)}, "
            "the size of the segment map"
        )
