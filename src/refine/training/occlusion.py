"""``stage=occlusion``: which of two instances lies on top, learned from what the detector sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from refine.options import OcclusionStageOptions
from refine.order.category_pairs import CategoryPairHead
from refine.order.occlusion_loss import occlusion_loss, order_pairs
from refine.order.pair_accuracy import (
    PairAccuracy,
    compute_mask_areas,
    prefer_higher,
    prefer_more_probable,
    prefer_smaller,
)
from refine.training.heads import HeadModule
from refine.types import Batch, Observation, TrainingTarget

BASELINES = ("score", "area", "category")
"""What the heads are compared with at validation: the higher score, the smaller mask, and how
often the one category lies on the other in the training split."""

_MIN_IOU = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """The pairs of a batch, as the heads read them.

    Attributes:
        features: ``[N, C, 14, 14]`` RoI features of the instances of all images.
        masks: ``[N, 28, 28]`` probabilities.
        labels: ``[N]`` int64 thing categories.
        scores: ``[N]`` in [0, 1].
        areas: ``[N]`` network pixels of the masks.
        pairs: ``[K, 2]`` int64: the first lies on top of the second.
    """

    features: Tensor
    masks: Tensor
    labels: Tensor
    scores: Tensor
    areas: Tensor
    pairs: Tensor


class OcclusionModule(HeadModule):
    """Trains occlusion heads.

    Args:
        *args: Of :class:`HeadModule`.
        options: Where pairs come from, and how many.
        category_pairs: ``[num_things, num_things]`` counts of the training split.
        **kwargs: Of :class:`HeadModule`.
    """

    def __init__(
        self,
        *args: Any,
        options: OcclusionStageOptions,
        category_pairs: Tensor,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.options = options
        category = CategoryPairHead(len(category_pairs))
        category.counts.copy_(category_pairs)
        self.pipeline.heads["category"] = category
        self.accuracy = PairAccuracy([*self.learning, *BASELINES])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sum of the heads' losses."""
        seen = self.see_pairs(batch, generator=self.generator(batch_idx))
        pairs, truth = order_pairs(seen.pairs)
        losses = {
            name: occlusion_loss(head(seen.features, seen.masks, seen.labels, pairs), truth)
            for name, head in self.heads.items()
        }
        return self.sum_losses(losses, batch_size=len(batch.samples))

    def on_validation_epoch_start(self) -> None:
        """Start counting anew."""
        self.accuracy.reset()

    def validation_step(self, batch: Batch) -> None:
        """Count which pairs each head and each baseline orders rightly."""
        seen = self.see_pairs(batch)
        pairs = seen.pairs
        answers = {
            "score": prefer_higher(seen.scores, pairs),
            "area": prefer_smaller(seen.areas, pairs),
        }
        for name in [*self.learning, "category"]:
            forth, back = (
                self.pipeline.heads[name](seen.features, seen.masks, seen.labels, p)
                for p in (pairs, pairs.flip(1))
            )
            answers[name] = prefer_more_probable(forth.sigmoid(), back.sigmoid())
        self.accuracy.update(answers)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/pair_accuracy_NAME``."""
        self.keep_accuracies(self.accuracy)

    @torch.no_grad()
    def see_pairs(self, batch: Batch, *, generator: torch.Generator | None = None) -> PairBatch:
        """What the detector sees of the pairs of a batch.

        Args:
            batch: With targets and their pairs.
            generator: Draws ``max_pairs`` an image; None takes all, but none of images that only
                fill up a distributed sampler.
        """
        targets, network = batch.targets, self.pipeline.network
        if self.options.pairs == "predicted":
            observations = network.observe(batch)
            pairs = [find_predicted_pairs(o, t) for o, t in zip(observations, targets, strict=True)]
        else:
            observations = network.observe_boxes(
                batch, [t.boxes for t in targets], [t.labels for t in targets]
            )
            pairs = [_pairs_of(t) for t in targets]
        if generator is not None:
            pairs = [_draw(p, self.options.max_pairs, generator) for p in pairs]
        else:
            is_padding = [sample.is_padding for sample in batch.samples]
            pairs = [p[:0] if skip else p for p, skip in zip(pairs, is_padding, strict=True)]
        return _join(observations, pairs)


def find_predicted_pairs(observation: Observation, target: TrainingTarget) -> Tensor:
    """Detections that stand for the instances of true pairs.

    A detection stands for the instance of its category that it overlaps most, at an IoU of 1/2 or
    more; several may stand for the same one.

    Returns:
        ``[K, 2]`` int64 positions among the detections: the first lies on top of the second.
    """
    raw, pairs = observation.raw, _pairs_of(target)
    stands_for = match_boxes_of_category(raw.boxes, raw.labels, target)
    over = stands_for[:, None] == pairs[:, 0]  # [N, K]
    under = stands_for[:, None] == pairs[:, 1]
    found = (over[:, None] & under[None]).any(dim=2)
    return found.nonzero()


def match_boxes_of_category(boxes: Tensor, labels: Tensor, target: TrainingTarget) -> Tensor:
    """``[N]`` int64: the instance that each box stands for, or -1."""
    if not len(boxes) or not len(target.boxes):
        return torch.full((len(boxes),), -1, device=boxes.device)
    ious = box_iou(boxes, target.boxes) * (labels[:, None] == target.labels)
    best, index = ious.max(dim=1)
    return torch.where(best >= _MIN_IOU, index, -1)


def _pairs_of(target: TrainingTarget) -> Tensor:
    if target.pairs is None:
        raise ValueError("this batch carries no occlusion pairs")
    return target.pairs


def _draw(pairs: Tensor, count: int, generator: torch.Generator) -> Tensor:
    if len(pairs) <= count:
        return pairs
    return pairs[torch.randperm(len(pairs), generator=generator)[:count].to(pairs.device)]


def _join(observations: Sequence[Observation], pairs: Sequence[Tensor]) -> PairBatch:
    """One batch of the images', positions shifted; only instances in pairs are kept."""
    features, masks, labels, scores, areas, shifted = [], [], [], [], [], []
    start = 0
    for observation, of_image in zip(observations, pairs, strict=True):
        used, places = torch.unique(of_image, return_inverse=True)
        raw = observation.raw
        mask = raw.mask_logits[used].float().sigmoid()
        features.append(observation.features[used].float())
        masks.append(mask)
        labels.append(raw.labels[used])
        scores.append(raw.scores[used])
        areas.append(compute_mask_areas(mask, raw.boxes[used]))
        shifted.append(places.reshape(-1, 2) + start)
        start += len(used)
    return PairBatch(
        features=torch.cat(features),
        masks=torch.cat(masks),
        labels=torch.cat(labels),
        scores=torch.cat(scores),
        areas=torch.cat(areas),
        pairs=torch.cat(shifted),
    )
