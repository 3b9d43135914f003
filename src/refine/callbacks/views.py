"""What there is to see of a prediction: iterations of IBPP, and who was put on top of whom."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from refine.fusion.evidence import Evidence, paste_instances
from refine.fusion.merge import Instance
from refine.fusion.overlaps import shared_window
from refine.fusion.relations import relate
from refine.fusion.semantic import semantic_map
from refine.options import FusionOptions, MergeOptions
from refine.types import GroundTruth, IterationTrace, RawPrediction
from refine.viz.decisions import Decision
from refine.viz.iterations import IterationView


def view_iterations(traces: Sequence[IterationTrace], options: MergeOptions) -> list[IterationView]:
    """The iterations of one image, ready to be drawn.

    Args:
        traces: Of the network, on any device.
        options: ``score_thresh`` and ``mask_thresh`` say which instances are drawn.
    """
    return [
        IterationView(
            iteration=trace.iteration,
            canvas=trace.canvas.float().cpu().numpy(),
            semantic=semantic_map(
                trace.raw.semantic_logits, trace.raw.image_size, trace.raw.original_size
            ),
            instances=paste_instances(trace.raw, options),
            image_size=trace.raw.image_size,
        )
        for trace in traces
    ]


def find_decisions(
    evidence: Evidence, options: FusionOptions, truth: GroundTruth | None, *, limit: int
) -> list[Decision]:
    """The pairs of one image that the fusion's relation was asked about.

    Args:
        evidence: Of the image.
        options: Of the fusion; the configured relation decides.
        truth: Of the image; without it no decision is judged.
        limit: Pairs with the largest common area, at most so many.

    Returns:
        By descending common area. Where the rule has no opinion the score decides, as in the merge.
    """
    instances = evidence.instances(options.merge)
    ask = partial(
        relate, instances, evidence.overlaps(options.merge), raw=evidence.raw, truth=truth
    )
    answers = ask(options.relations)
    true_sides = np.zeros(len(answers.pairs), int)
    if truth is not None:
        true_sides = ask(replace(options.relations, kind="oracle")).on_top
    decisions = []
    for (i, j), side, true_side in zip(
        answers.pairs.tolist(), answers.on_top.tolist(), true_sides.tolist(), strict=True
    ):
        upper, lower = (j, i) if side < 0 else (i, j)
        rule = options.relations.kind if side else f"score ({options.relations.kind} abstains)"
        decision = Decision(
            upper=instances[upper],
            lower=instances[lower],
            reason=_explain(rule, instances[upper], instances[lower], evidence.raw),
            is_right=(true_side < 0) == (side < 0) if true_side else None,
        )
        decisions.append((_common_area(instances[i], instances[j]), decision))
    ordered = sorted(decisions, key=lambda pair: -pair[0])
    return [decision for _, decision in ordered[:limit]]


def _explain(rule: str, upper: Instance, lower: Instance, raw: RawPrediction) -> str:
    """What a decision rests on; O is the probability of it by each head that was asked."""
    parts = [f"by {rule}"]
    for name, answers in raw.occlusions.items():
        pair = answers.pairs.new_tensor([upper.index, lower.index])
        asked = (answers.pairs == pair).all(dim=1)
        parts += [f"O({name}) {float(p):.2f}" for p in answers.probabilities[asked]]
    return ", ".join([*parts, f"scores {upper.score:.2f} / {lower.score:.2f}"])


def _common_area(one: Instance, other: Instance) -> int:
    return int(np.count_nonzero(shared_window(one.crop, other.crop)[2]))
