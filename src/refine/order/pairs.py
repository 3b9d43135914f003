"""Pairs of instances: which are asked about or trained on, and what a head reads of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from refine.fusion.evidence import Evidence
from refine.options import MergeOptions
from refine.types import Observation, TrainingTarget

PAIR_SCORE_THRESH = 0.3
PAIR_OVERLAP_THRESH = 0.05
"""Occlusion heads answer for every ordered pair of detections with scores of at least the first,
where at least the second share of either mask lies in the other: more than a fusion asks about."""

_MIN_IOU = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """Pairs of instances of one or more images, as occlusion heads read them.

    Attributes:
        features: ``[N, C, 14, 14]`` float32 RoI features of the instances that occur in pairs.
        masks: ``[N, 28, 28]`` mask probabilities inside the boxes.
        labels: ``[N]`` int64 thing categories.
        pairs: ``[K, 2]`` int64 positions among the N instances.
        boxes: ``[N, 4]`` xyxy network pixels.
        scores: ``[N]`` in [0, 1].
    """

    features: Tensor
    masks: Tensor
    labels: Tensor
    pairs: Tensor
    boxes: Tensor
    scores: Tensor


def gather_pairs(observations: Sequence[Observation], pairs: Sequence[Tensor]) -> PairBatch:
    """The instances that occur in the pairs ``[K, 2]`` of each image, of all images."""
    images, shifted, start = [], [], 0
    for seen, of_image in zip(observations, pairs, strict=True):
        raw, features = seen.raw, seen.features
        used, places = torch.unique(of_image.to(features.device), return_inverse=True)
        dense = (features[used].float(), raw.mask_logits[used].float().sigmoid())
        images.append((*dense, raw.labels[used], raw.boxes[used], raw.scores[used]))
        shifted.append(places + start)
        start += len(used)
    features, masks, labels, boxes, scores = map(torch.cat, zip(*images, strict=True))
    return PairBatch(features, masks, labels, torch.cat(shifted), boxes, scores)


def choose_pairs(evidence: Evidence, merge: MergeOptions) -> Tensor:
    """``[K, 2]`` int64, on the host: detections that overlap enough to be asked, in both orders.

    ``merge.mask_thresh`` decides what overlaps; a ``merge.score_thresh`` below
    :data:`PAIR_SCORE_THRESH` adds pairs of weaker detections.
    """
    limits = replace(merge, score_thresh=min(PAIR_SCORE_THRESH, merge.score_thresh))
    overlaps = evidence.overlaps(limits)
    detections = np.array([i.index for i in evidence.instances(limits)], np.int64)
    is_asked = (overlaps.shares >= PAIR_OVERLAP_THRESH).any(axis=1)
    pairs = torch.from_numpy(detections[overlaps.pairs[is_asked]].reshape(-1, 2))
    return torch.cat([pairs, pairs.flip(1)])


def find_predicted_pairs(observation: Observation, target: TrainingTarget) -> Tensor:
    """``[K, 2]`` int64 ``(top, bottom)``: detections that stand for the instances of true pairs.

    A detection stands for the instance of its category that it overlaps most, at an IoU of 1/2 or
    more; several may stand for the same one.
    """
    raw, pairs = observation.raw, true_pairs(target)
    if not len(raw.boxes) or not len(pairs):
        return pairs.new_zeros((0, 2))
    ious = box_iou(raw.boxes, target.boxes) * (raw.labels[:, None] == target.labels)
    best, index = ious.max(dim=1)
    stands_for = torch.where(best >= _MIN_IOU, index, -1)[:, None]
    over, under = (stands_for == column for column in pairs.unbind(dim=1))  # [N, K]
    return (over[:, None] & under[None]).any(dim=2).nonzero()


def true_pairs(target: TrainingTarget) -> Tensor:
    """``[K, 2]`` int64 ``(top, bottom)`` positions among the true instances.

    A batch that was made without pairs raises ``ValueError``.
    """
    if target.pairs is None:
        raise ValueError("this batch carries no occlusion pairs")
    return target.pairs


def draw_pairs(pairs: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """At most ``count`` of the pairs, drawn at random."""
    if len(pairs) <= count:
        return pairs
    return pairs[torch.randperm(len(pairs), generator=generator)[:count].to(pairs.device)]
