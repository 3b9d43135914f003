"""Heads that order instances: how they are described, built and asked.

An occlusion head answers for ordered pairs of instances, a ranking head for every instance. Both
are trained on a finished detector (``stage=occlusion``, ``stage=ranking``) and read its results.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from refine.fusion.evidence import Evidence
from refine.fusion.relations import asks_head
from refine.options import MergeOptions, OcclusionOptions, RankingOptions, RelationsOptions
from refine.order.category_pairs import CategoryPairHead
from refine.order.occlusion_head import OcclusionHead
from refine.order.pairs import PAIR_SCORE_THRESH, choose_pairs, gather_pairs
from refine.order.ranking_head import RankingHead
from refine.types import Observation, PairOcclusions, RawPrediction

Spec = dict[str, Any]
"""A head as a checkpoint records it: ``kind`` and ``options``, plain containers."""


def describe_head(head: nn.Module) -> Spec:
    """What :func:`build_head` needs to build an equal head."""
    if not isinstance(head, OcclusionHead | RankingHead):
        return {"kind": "category_pairs", "options": {}}
    kind = "ranking" if is_ranking(head) else "occlusion"
    return {"kind": kind, "options": asdict(head.options)}


def build_head(spec: Mapping[str, Any], *, in_channels: int, num_things: int) -> nn.Module:
    """A head with random weights, for RoI features of ``in_channels``.

    Raises:
        ValueError: An unknown kind, or options out of their range.
    """
    match spec["kind"]:
        case "occlusion":
            options = OcclusionOptions(**spec["options"])
            return OcclusionHead(in_channels, num_things, options=options)
        case "ranking":
            return RankingHead(num_things, options=RankingOptions(**spec["options"]))
        case "category_pairs":
            return CategoryPairHead(num_things)
        case kind:
            raise ValueError(f"unknown kind of head: {kind}")


def needed_head(relations: RelationsOptions) -> str | None:
    """Name of the head that a relation asks, or None."""
    return relations.head if asks_head(relations.kind) else None


@torch.no_grad()
def ask_heads(
    heads: Mapping[str, nn.Module],
    observation: Observation,
    evidence: Evidence,
    *,
    merge: MergeOptions,
) -> None:
    """Write the heads' answers for one image into ``evidence.raw``: its occlusions and rankings.

    The heads, by name, are on the device of the observation of the same image; the evidence and the
    answers are on the host. ``merge``: see :func:`~refine.order.pairs.choose_pairs`.
    """
    pairs, asked = None, None
    for name, head in heads.items():
        if isinstance(head, RankingHead):
            evidence.raw.rankings[name] = _rank(head, observation.raw).cpu()
            continue
        if pairs is None or asked is None:
            pairs = choose_pairs(evidence, merge)
            asked = gather_pairs([observation], [pairs])
        logits = head(asked.features, asked.masks, asked.labels, asked.pairs)
        probabilities = logits.float().sigmoid().cpu()
        evidence.raw.occlusions[name] = PairOcclusions(pairs=pairs, probabilities=probabilities)


def is_ranking(head: nn.Module) -> bool:
    """Whether a head ranks instances one by one; others answer for pairs."""
    return isinstance(head, RankingHead)


def _rank(head: RankingHead, raw: RawPrediction) -> Tensor:
    """``[N]``; detections that no merge looks at take no part and get 0."""
    ranked = raw.scores >= PAIR_SCORE_THRESH
    height, width = raw.semantic_logits.shape[-2:]
    masks = raw.mask_logits[ranked].float().sigmoid()
    scores = torch.zeros_like(raw.scores)
    scores[ranked] = head.rank(masks, raw.boxes[ranked], raw.labels[ranked], size=(height, width))
    return scores
