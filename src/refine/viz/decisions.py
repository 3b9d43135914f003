"""Which of two overlapping instances the fusion put on top, one row of panels per pair."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from refine.categories import CategoryTable
from refine.fusion.evidence import Evidence
from refine.fusion.merge import Instance
from refine.fusion.relations import relate
from refine.metrics.functional import Panoptic
from refine.options import FusionOptions
from refine.types import GroundTruth, RawPrediction
from refine.viz.labels import draw_labels, segment_labels
from refine.viz.overlay import (
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
    """The order of one pair of instances: ``upper`` was put on top of ``lower``.

    ``is_right`` says whether the ground truth agrees; it is None if that gives no order.
    """

    upper: Instance
    lower: Instance
    reason: str
    is_right: bool | None


def find_decisions(
    evidence: Evidence, options: FusionOptions, truth: GroundTruth | None, *, limit: int
) -> list[Decision]:
    """The pairs of one image that the configured relation was asked about, at most ``limit``.

    They come by descending common area. Where the relation has no opinion the score decides, as in
    the merge; without ground truth no decision is judged.
    """
    instances, raw = evidence.instances(options.merge), evidence.raw
    overlaps = evidence.overlaps(options.merge)
    ask = partial(relate, instances, overlaps, raw=raw, truth=truth)
    answers = ask(options.relations)
    true_sides = np.zeros(len(answers.pairs), int)
    if truth is not None:
        true_sides = ask(replace(options.relations, kind="oracle")).on_top
    areas = dict(zip(map(tuple, overlaps.pairs.tolist()), overlaps.intersections, strict=True))
    found = zip(answers.pairs.tolist(), answers.on_top.tolist(), true_sides.tolist(), strict=True)
    decisions = []
    largest_first = sorted(found, key=lambda row: -areas[tuple(row[0])])
    for (i, j), side, true_side in largest_first[:limit]:
        upper, lower = (instances[k] for k in ((j, i) if side < 0 else (i, j)))
        rule = options.relations.kind if side else f"score ({options.relations.kind} abstains)"
        is_right = (true_side < 0) == (side < 0) if true_side else None
        reason = _explain(rule, upper, lower, raw)
        decisions.append(Decision(upper=upper, lower=lower, reason=reason, is_right=is_right))
    return decisions


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
    pair = [decision.upper, decision.lower]
    sides = image[window].shape[:2]
    height, width = (max(1, round(side * (_TILE_PX / max(sides)))) for side in sides)
    tile = resize_image(image[window], (height, width))

    def fit(panoptic: Panoptic) -> Panoptic:
        return resize_panoptic(crop_panoptic(panoptic, window), (height, width))

    both, lower = (fit(stack_instances(stack, image.shape[:2])) for stack in (pair, pair[1:]))
    drawn = draw_panoptic(tile, both, categories, labels=False)
    colors = segment_colors(both, categories)
    hidden = find_contours(lower.segment_map) & (both.segment_map == _UPPER_ID)
    drawn[hidden] = colors.get(_LOWER_ID, WHITE)
    tiles = [draw_labels(drawn, segment_labels(both, categories))]
    if truth is not None:
        tiles.append(draw_panoptic(tile, fit(truth), categories))
    left = (_TILE_PX - width) // 2
    margins = [(0, 0), (left, _TILE_PX - width - left), (0, 0)]
    row = join_panels([np.pad(t, margins) for t in tiles], axis=1)
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
