"""Heads that order instances: how they are described, built, and asked.

An occlusion head answers for ordered pairs of instances, a ranking head for every instance. Both
are trained on a finished detector (``stage=occlusion``, ``stage=ranking``), stand beside it under
a name, and see what it saw of its instances.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from refine.fusion.evidence import Evidence
from refine.options import MergeOptions, OcclusionOptions, RankingOptions, RelationsOptions
from refine.order.category_pairs import CategoryPairHead
from refine.order.occlusion_network import OcclusionHead
from refine.order.ranking_network import RankingHead
from refine.types import Observation, PairOcclusions, RawPrediction

PAIR_SCORE_THRESH = 0.3
PAIR_OVERLAP_THRESH = 0.05
"""Occlusion heads answer for every ordered pair of detections with scores of at least the first,
where at least the second share of either mask lies in the other: more than a fusion asks about."""

Spec = dict[str, Any]
"""A head as a checkpoint records it: ``kind`` and ``options``, plain containers."""


def describe_head(head: nn.Module) -> Spec:
    """What :func:`build_head` needs to build an equal head."""
    if isinstance(head, OcclusionHead):
        return {"kind": "occlusion", "options": asdict(head.options)}
    if isinstance(head, RankingHead):
        return {"kind": "ranking", "options": asdict(head.options)}
    return {"kind": "category_pairs", "options": {}}


def build_head(spec: Mapping[str, Any], *, in_channels: int, num_things: int) -> nn.Module:
    """A head with random weights.

    Args:
        spec: Of :func:`describe_head`.
        in_channels: Width of the RoI features.
        num_things: Thing categories.

    Raises:
        ValueError: An unknown kind, or options out of their range.
    """
    if spec["kind"] == "occlusion":
        options = OcclusionOptions(**spec["options"])
        return OcclusionHead(in_channels, num_things, options=options)
    if spec["kind"] == "ranking":
        return RankingHead(num_things, options=RankingOptions(**spec["options"]))
    if spec["kind"] == "category_pairs":
        return CategoryPairHead(num_things)
    raise ValueError(f"unknown kind of head: {spec['kind']}")


def needed_head(relations: RelationsOptions) -> str | None:
    """The head that a relation asks, if it asks one."""
    return relations.head if relations.kind in ("srm", "occlusion", "soft_occlusion") else None


@torch.no_grad()
def ask_heads(
    heads: Mapping[str, nn.Module],
    observation: Observation,
    evidence: Evidence,
    *,
    merge: MergeOptions,
) -> None:
    """Write the heads' answers for one image into its raw prediction.

    Args:
        heads: By name, on the device of the observation's features.
        observation: Of the network.
        evidence: Of the same prediction; ``evidence.raw`` receives ``occlusions`` and
            ``rankings``, on its own device.
        merge: Its ``mask_thresh`` says what overlaps; a lower ``score_thresh`` than
            :data:`PAIR_SCORE_THRESH` asks about more pairs.
    """
    pairs: Tensor | None = None
    for name, head in heads.items():
        if isinstance(head, RankingHead):
            evidence.raw.rankings[name] = _rank(head, observation.raw).cpu()
            continue
        if pairs is None:
            pairs = choose_pairs(evidence, merge)
        evidence.raw.occlusions[name] = _ask_pairs(head, observation, pairs)


def is_ranking(head: nn.Module) -> bool:
    """Whether a head ranks instances one by one; others answer for pairs."""
    return isinstance(head, RankingHead)


def choose_pairs(evidence: Evidence, merge: MergeOptions) -> Tensor:
    """Ordered pairs of detections that overlap enough to be asked about.

    Returns:
        ``[K, 2]`` int64 on the host; every pair stands in both orders.
    """
    limits = replace(merge, score_thresh=min(PAIR_SCORE_THRESH, merge.score_thresh))
    overlaps = evidence.overlaps(limits)
    detections = np.array([i.index for i in evidence.instances(limits)], np.int64)
    is_asked = (overlaps.shares >= PAIR_OVERLAP_THRESH).any(axis=1)
    pairs = torch.from_numpy(detections[overlaps.pairs[is_asked]].reshape(-1, 2))
    return torch.cat([pairs, pairs.flip(1)])


def _rank(head: RankingHead, raw: RawPrediction) -> Tensor:
    """``[N]``; detections that no merge looks at take no part and get 0."""
    ranked = raw.scores >= PAIR_SCORE_THRESH
    height, width = raw.semantic_logits.shape[-2:]
    scores = torch.zeros_like(raw.scores)
    scores[ranked] = head.rank(
        raw.mask_logits[ranked].float().sigmoid(),
        raw.boxes[ranked],
        raw.labels[ranked],
        size=(height, width),
    )
    return scores


def _ask_pairs(head: nn.Module, observation: Observation, pairs: Tensor) -> PairOcclusions:
    used, places = torch.unique(pairs, return_inverse=True)
    raw, device = observation.raw, observation.features.device
    on_device = used.to(device)
    logits = head(
        observation.features[on_device].float(),
        raw.mask_logits[on_device].float().sigmoid(),
        raw.labels[on_device],
        places.to(device),
    )
    return PairOcclusions(pairs=pairs, probabilities=logits.float().sigmoid().cpu())
