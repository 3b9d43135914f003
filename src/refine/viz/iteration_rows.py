"""How IBPP's two branches come to agree on one image: one row of panels per iteration."""

from collections.abc import Sequence

import numpy as np

from refine.categories import CategoryTable
from refine.fusion.evidence import paste_instances
from refine.fusion.merge import Instance
from refine.fusion.semantic import semantic_map
from refine.options import MergeOptions
from refine.types import IGNORE_INDEX, STRIDE, IterationTrace, PanopticPrediction, Segment
from refine.viz.overlay import draw_panoptic, resize_panoptic, stack_instances
from refine.viz.palette import Color
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

_DISPUTE_WORDS: dict[str, Color] = {"bare thing": (250, 200, 40), "covered stuff": (70, 140, 255)}


def draw_iterations(
    image: np.ndarray,
    traces: Sequence[IterationTrace],
    categories: CategoryTable,
    options: MergeOptions,
) -> np.ndarray:
    """Canvas, semantic map, instances and their dispute, one row per iteration.

    The image is grey, so every colour comes from the network. The canvas shows the strongest
    category of each cell, as opaque as its value. The last panel shows where the two branches
    contradict each other: "bare thing" is semantically a thing without an instance, "covered stuff"
    is semantically stuff below one. Iteration 0 has no instances; its map is compared with those of
    iteration 1, which have read it.

    ``traces`` are all iterations in order, on any device. Of the ``options``, ``score_thresh`` and
    ``mask_thresh`` select the instances to draw.

    Raises:
        ValueError: No iterations, or a prediction of another size than the image.
    """
    if not traces:
        raise ValueError("no iterations to draw")
    grey = resize_image(to_grey(image), fit_size(*image.shape[:2]))
    pasted = [paste_instances(trace.raw, options) for trace in traces]
    rows = []
    for k, trace in enumerate(traces):
        if trace.raw.original_size != image.shape[:2]:
            sizes = f"{trace.raw.original_size}: expected {image.shape[:2]}"
            raise ValueError(f"prediction of original size {sizes}, the size of the image")
        rows.append(_draw_row(grey, trace, k, categories, pasted))
    return join_panels(rows, axis=0)


def _draw_row(
    grey: np.ndarray,
    trace: IterationTrace,
    k: int,
    categories: CategoryTable,
    pasted: Sequence[Sequence[Instance]],
) -> np.ndarray:
    """The panels of iteration ``k``; ``pasted`` holds the instances of all iterations."""
    raw, size = trace.raw, grey.shape[:2]
    rival = 1 if k == 0 and len(pasted) > 1 else k

    def draw(panoptic: PanopticPrediction) -> np.ndarray:
        return draw_panoptic(grey, resize_panoptic(panoptic, size), categories)

    semantic = semantic_map(raw.semantic_logits, raw.image_size, raw.original_size)
    stacked = stack_instances(pasted[k], raw.original_size)
    covered = stack_instances(pasted[rival], raw.original_size).segment_map > 0
    is_thing = semantic < categories.num_things
    is_stuff = ~is_thing & (semantic != IGNORE_INDEX)
    dispute = np.select([is_thing & ~covered, is_stuff & covered], [1, 2])
    shown = resize_map(dispute, size)
    colors = np.array([(0, 0, 0), *_DISPUTE_WORDS.values()])
    against = f" against iteration {rival}" if rival != k else ""
    panels = (
        (_draw_canvas(grey, trace, categories), {f"iteration {k}: canvas": WHITE}),
        (draw(_as_segments(semantic, categories)), {"semantic map": WHITE}),
        (draw(stacked), {f"instances: {len(stacked.segments)}": WHITE}),
        (
            blend(grey * 0.6, colors[shown], 0.7 * (shown > 0)[..., None]),
            _DISPUTE_WORDS | {f"{np.mean(dispute > 0):.1%}{against}": WHITE},
        ),
    )
    return join_panels([add_caption(*panel) for panel in panels], axis=1)


def _draw_canvas(grey: np.ndarray, trace: IterationTrace, categories: CategoryTable) -> np.ndarray:
    """The canvas without its padding, each cell enlarged to the pixels that it stands for."""
    rows, columns = (
        ((np.arange(pixels) + 0.5) * (network / pixels / STRIDE)).astype(int)
        for pixels, network in zip(grey.shape[:2], trace.raw.image_size, strict=True)
    )
    canvas = np.pad(trace.canvas.float().cpu().numpy(), [(1, 0), (0, 0), (0, 0)])  # of no category
    colors = np.array([(0, 0, 0)] + [c.color for c in categories.categories])
    best, value = (a[rows][:, columns] for a in (canvas.argmax(axis=0), canvas.max(axis=0)))
    return blend(grey * 0.25, colors[best], value[..., None])


def _as_segments(semantic: np.ndarray, categories: CategoryTable) -> PanopticPrediction:
    """One segment per category, so that it is drawn in the category's own colour."""
    segment_map = np.where(semantic == IGNORE_INDEX, 0, semantic.astype(np.int32) + 1)
    segments = tuple(
        Segment(id=k, category=k - 1, is_thing=c.is_thing, area=0)
        for k, c in enumerate(categories.categories, start=1)
    )
    return PanopticPrediction(segment_map=segment_map, segments=segments)
