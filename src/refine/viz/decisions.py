"""Which of two overlapping instances the fusion put on top, one row of panels per pair."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from refine.categories import CategoryTable
from refine.fusion.evidence import Evidence
from refine.fusion.merge import Instance
from refine.fusion.overlaps import shared_window
from refine.fusion.relations import relate
from refine.options import FusionOptions
from refine.types import GroundTruth, RawPrediction
from refine.viz.labels import draw_labels, segment_labels
from refine.viz.overlay import (
    Panoptic,
    crop_panoptic,
    draw_panoptic,
    find_contours,
    require_size,
    resize_panoptic,
    stack_instances,
)
from refine.viz.palette import Color, segment_colors
from refine.viz.panels import WHITE, add_caption, join_panels, resize_image

_TILE_PX = 256
_MARGIN_FRAC = 0.15
_MIN_WINDOW_PX = 16
_UPPER_ID, _LOWER_ID = 1, 2
_VERDICTS: dict[bool | None, tuple[str, Color]] = {
    True: ("right", (90, 210, 110)),
    False: ("wrong", (235, 64, 52)),
    None: ("truth unknown", (170, 170, 170)),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decision:
    """The order of one pair of instances.

    Attributes:
        upper: Instance that was put on top.
        lower: Instance below it.
        reason: What the decision is based on, in a few words.
        is_right: Whether the ground truth agrees; None if it gives no order.
    """

    upper: Instance
    lower: Instance
    reason: str
    is_right: bool | None


def find_decisions(
    evidence: Evidence, options: FusionOptions, truth: GroundTruth | None, *, limit: int
) -> list[Decision]:
    """The pairs of one image that the configured relation was asked about.

    Args:
        evidence: Prediction of the image.
        options: Fusion settings. Where the relation has no opinion the score decides, as in the
            merge.
        truth: Ground truth of the image; without it no decision is judged.
        limit: Maximum number of pairs; those with the largest common area are kept.

    Returns:
        Decisions by descending common area.
    """
    instances, raw = evidence.instances(options.merge), evidence.raw
    ask = partial(relate, instances, evidence.overlaps(options.merge), raw=raw, truth=truth)
    answers = ask(options.relations)
    true_sides = np.zeros(len(answers.pairs), int)
    if truth is not None:
        true_sides = ask(replace(options.relations, kind="oracle")).on_top
    decisions = []
    for (i, j), side, true_side in zip(
        answers.pairs.tolist(), answers.on_top.tolist(), true_sides.tolist(), strict=True
    ):
        upper, lower = (instances[k] for k in ((j, i) if side < 0 else (i, j)))
        rule = options.relations.kind if side else f"score ({options.relations.kind} abstains)"
        decision = Decision(
            upper=upper,
            lower=lower,
            reason=_explain(rule, upper, lower, raw),
            is_right=(true_side < 0) == (side < 0) if true_side else None,
        )
        area = np.count_nonzero(shared_window(upper.crop, lower.crop)[2])
        decisions.append((area, decision))
    decisions.sort(key=lambda pair: -pair[0])
    return [decision for _, decision in decisions[:limit]]


def draw_decisions(
    image: np.ndarray,
    decisions: Sequence[Decision],
    categories: CategoryTable,
    *,
    truth: GroundTruth | None = None,
) -> np.ndarray:
    """One row per pair: the two instances as they were stacked, and the ground truth, if given.

    The hidden outline of the lower instance is drawn over the upper one.

    Raises:
        ValueError: No decisions, or a ground truth of another size than the image.
    """
    if not decisions:
        raise ValueError("no decisions to draw")
    if truth is not None:
        require_size(truth, image)
    return join_panels([_draw_row(image, d, categories, truth) for d in decisions], axis=0)


def _explain(rule: str, upper: Instance, lower: Instance, raw: RawPrediction) -> str:
    """What a decision is based on; O is the probability of it according to each head asked."""
    parts = [f"by {rule}"]
    for name, answers in raw.occlusions.items():
        pair = answers.pairs.new_tensor([upper.index, lower.index])
        asked = (answers.pairs == pair).all(dim=1)
        parts += [f"O({name}) {float(p):.2f}" for p in answers.probabilities[asked]]
    return ", ".join([*parts, f"scores {upper.score:.2f} / {lower.score:.2f}"])


def _draw_row(
    image: np.ndarray, decision: Decision, categories: CategoryTable, truth: GroundTruth | None
) -> np.ndarray:
    window = _find_window(decision, image.shape[:2])
    cropped = image[window]
    scale = _TILE_PX / max(cropped.shape[:2])
    height, width = (max(1, round(side * scale)) for side in cropped.shape[:2])
    tile = resize_image(cropped, (height, width))
    pair = [decision.upper, decision.lower]
    both, lower = (
        resize_panoptic(
            crop_panoptic(stack_instances(instances, image.shape[:2]), window), (height, width)
        )
        for instances in (pair, pair[1:])
    )
    tiles = [_draw_stack(tile, both, lower, categories)]
    if truth is not None:
        there = resize_panoptic(crop_panoptic(truth, window), (height, width))
        tiles.append(draw_panoptic(tile, there, categories))
    margin = (_TILE_PX - width) // 2, _TILE_PX - width - (_TILE_PX - width) // 2
    row = join_panels([np.pad(t, [(0, 0), margin, (0, 0)]) for t in tiles], axis=1)
    verdict, color = _VERDICTS[decision.is_right]
    row = add_caption(row, {verdict: color, decision.reason: WHITE})
    names = [categories[instance.label].name for instance in pair]
    return add_caption(row, {" over ".join(names): WHITE})


def _find_window(decision: Decision, size: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns around both masks."""
    window = []
    for axis in (0, 1):
        spans = [i.crop.slices[axis] for i in (decision.lower, decision.upper)]
        start, stop = min(s.start for s in spans), max(s.stop for s in spans)
        margin = max(_MARGIN_FRAC * (stop - start), (_MIN_WINDOW_PX - (stop - start)) / 2)
        window.append(slice(max(0, int(start - margin)), min(size[axis], int(stop + margin) + 1)))
    return window[0], window[1]


def _draw_stack(
    image: np.ndarray, both: Panoptic, lower: Panoptic, categories: CategoryTable
) -> np.ndarray:
    """Both instances, and the outline of the lower one where it is hidden."""
    drawn = draw_panoptic(image, both, categories, labels=False)
    colors = segment_colors(both.segment_map, both.segments, categories)
    hidden = find_contours(lower.segment_map) & (both.segment_map == _UPPER_ID)
    drawn[hidden] = colors.get(_LOWER_ID, WHITE)
    return draw_labels(drawn, segment_labels(both, categories))
