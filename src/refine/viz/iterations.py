"""How IBPP's two branches come to agree: one image, a row of panels an iteration."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from refine.categories import CategoryTable
from refine.types import IGNORE_INDEX, STRIDE, MaskCrop, PanopticPrediction, Segment
from refine.viz.overlay import draw_panoptic
from refine.viz.palette import Color
from refine.viz.panels import (
    WHITE,
    add_caption,
    blend,
    enlarge_image,
    enlarge_map,
    find_enlargement,
    join_panels,
)

_BARE_THING: Color = (250, 200, 40)
_COVERED_STUFF: Color = (70, 140, 255)
_DISPUTE_WORDS: dict[str, Color] = {"bare thing": _BARE_THING, "covered stuff": _COVERED_STUFF}
_DIMMED = 0.25
_SHADED = 0.6
_MARK = 0.7


class DrawnInstance(Protocol):
    """A pasted instance, whatever else it knows."""

    @property
    def crop(self) -> MaskCrop:
        """Its mask at original size."""

    @property
    def label(self) -> int:
        """Thing category."""

    @property
    def score(self) -> float:
        """Detection score in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IterationView:
    """What there is to see of one iteration.

    Attributes:
        iteration: Its number.
        canvas: ``[num_things, h, w]`` float in [0, 1] at stride 4 of the network's input; padding
            right and below may be left in.
        semantic: ``[H, W]`` uint8 contiguous category, or 255 (void), at original size.
        instances: Those that are sure enough to be drawn; none at iteration 0.
        image_size: ``(height, width)`` in network pixels, without padding.
    """

    iteration: int
    canvas: np.ndarray
    semantic: np.ndarray
    instances: Sequence[DrawnInstance]
    image_size: tuple[int, int]


def draw_iterations(
    image: np.ndarray, views: Sequence[IterationView], categories: CategoryTable
) -> np.ndarray:
    """Canvas, semantic map, instances and their dispute, a row an iteration.

    The image itself is grey, so every colour is something the network says. The canvas shows each
    cell's strongest category, as opaque as its value. In the last panel the two branches contradict
    each other on what is a thing: "bare thing" is semantically a thing without an instance,
    "covered stuff" semantically stuff below one. An iteration 0 without instances is held against
    those of iteration 1, which have read its map.

    Args:
        image: ``[H, W, 3]`` uint8 RGB at original size; small ones are enlarged.
        views: At least one, in order of iteration.
        categories: The dataset's categories.

    Returns:
        ``[H', W', 3]`` uint8.

    Raises:
        ValueError: No views, or a semantic map of another size than the image.
    """
    if not views:
        raise ValueError("no iterations to draw")
    factor = find_enlargement(*image.shape[:2])
    grey = enlarge_image(_to_grey(image), factor)
    opponents = [views[1] if k == 0 and len(views) > 1 else v for k, v in enumerate(views)]
    rows = [
        _draw_row(grey, view, opponent=opponent, categories=categories, factor=factor)
        for view, opponent in zip(views, opponents, strict=True)
    ]
    return join_panels(rows, axis=0)


def _draw_row(
    image: np.ndarray,
    view: IterationView,
    *,
    opponent: IterationView,
    categories: CategoryTable,
    factor: int,
) -> np.ndarray:
    dispute = _find_dispute(view.semantic, opponent.instances, num_things=categories.num_things)
    semantic, instances = (
        replace(panoptic, segment_map=enlarge_map(panoptic.segment_map, factor))
        for panoptic in (_as_segments(view.semantic, categories), _stack_instances(view))
    )
    panels = [
        _draw_canvas(image, view, categories=categories),
        draw_panoptic(image, semantic, categories),
        draw_panoptic(image, instances, categories),
        _draw_dispute(image, enlarge_map(dispute, factor)),
    ]
    against = f" against iteration {opponent.iteration}" if opponent is not view else ""
    captions: list[dict[str, Color]] = [
        {f"iteration {view.iteration}: canvas": WHITE},
        {"semantic map": WHITE},
        {f"instances: {len(instances.segments)}": WHITE},
        _DISPUTE_WORDS | {f"{np.mean(dispute > 0):.1%}{against}": WHITE},
    ]
    return join_panels(list(map(add_caption, panels, captions)), axis=1)


def _draw_canvas(
    image: np.ndarray, view: IterationView, *, categories: CategoryTable
) -> np.ndarray:
    rows, columns = (
        ((np.arange(pixels) + 0.5) * (network / pixels / STRIDE)).astype(int)
        for pixels, network in zip(image.shape[:2], view.image_size, strict=True)
    )
    nothing = np.zeros((1, *view.canvas.shape[1:]), view.canvas.dtype)
    canvas = np.concatenate([nothing, view.canvas])  # a dataset may be without things
    colors = np.array([(0, 0, 0)] + [c.color for c in categories.categories])
    best = canvas.argmax(axis=0)[rows][:, columns]
    value = canvas.max(axis=0)[rows][:, columns]
    return blend(image * _DIMMED, colors[best], value[..., None])


def _as_segments(semantic: np.ndarray, categories: CategoryTable) -> PanopticPrediction:
    """A segment a category, so that it is drawn in the category's own colour."""
    segment_map = np.where(semantic == IGNORE_INDEX, 0, semantic.astype(np.int32) + 1)
    areas = np.bincount(segment_map.ravel(), minlength=1)
    segments = tuple(
        Segment(id=k, category=k - 1, is_thing=categories[k - 1].is_thing, area=int(areas[k]))
        for k in np.flatnonzero(areas).tolist()
        if k
    )
    return PanopticPrediction(segment_map=segment_map, segments=segments)


def _stack_instances(view: IterationView) -> PanopticPrediction:
    """Instances one upon another, the surest on top; those without a visible pixel are left out."""
    segment_map = np.zeros(view.semantic.shape, np.int32)
    ordered = sorted(view.instances, key=lambda i: -i.score)
    for k, instance in reversed(list(enumerate(ordered, start=1))):
        segment_map[instance.crop.slices][instance.crop.mask] = k
    areas = np.bincount(segment_map.ravel(), minlength=len(ordered) + 1)
    segments = tuple(
        Segment(id=k, category=i.label, is_thing=True, area=int(areas[k]), score=i.score)
        for k, i in enumerate(ordered, start=1)
        if areas[k]
    )
    return PanopticPrediction(segment_map=segment_map, segments=segments)


def _find_dispute(
    semantic: np.ndarray, instances: Sequence[DrawnInstance], *, num_things: int
) -> np.ndarray:
    """``[H, W]`` uint8: 0 none, 1 bare thing, 2 covered stuff."""
    covered = np.zeros(semantic.shape, bool)
    for instance in instances:
        covered[instance.crop.slices] |= instance.crop.mask
    thing, void = semantic < num_things, semantic == IGNORE_INDEX
    return np.select([thing & ~covered, ~thing & ~void & covered], [1, 2]).astype(np.uint8)


def _draw_dispute(image: np.ndarray, dispute: np.ndarray) -> np.ndarray:
    colors = np.array([(0, 0, 0), _BARE_THING, _COVERED_STUFF])
    marks = np.where(dispute > 0, _MARK, 0.0)
    return blend(image * _SHADED, colors[dispute], marks[..., None])


def _to_grey(image: np.ndarray) -> np.ndarray:
    grey: np.ndarray = image.mean(axis=2, keepdims=True).astype(np.uint8)
    return grey.repeat(3, axis=2)
