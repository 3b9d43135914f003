"""Box stages one after the other (Cascade R-CNN, Cai and Vasconcelos 2018); one is a plain head.

Training follows HTC (Chen et al. 2019): each stage draws its own sample from the boxes of the one
before it, at its own IoU. In inference the class probabilities are averaged over the stages and
the last stage gives the boxes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from refine.detector.box_head import BoxHead
from refine.detector.box_stage import BoxStage, Detections, RoISample, sample_rois
from refine.detector.proposals import match_boxes
from refine.ops.boxes import is_proper, sample_labels
from refine.options import RoIOptions
from refine.types import TrainingTarget

Pool = Callable[[Sequence[Tensor]], Tensor]
"""Boxes of each image to the RoI features ``[N, C, 7, 7]`` that a box head reads."""


@dataclass(frozen=True, slots=True, eq=False)
class Positives:
    """RoIs of one image that belong to an instance, for the mask losses.

    Attributes:
        boxes: ``[P, 4]``.
        labels: ``[P]`` thing category of the instance.
        matched: ``[P]`` int64, index of the instance.
        scores: ``[P]`` probability of that category by the box stage, without gradient.
    """

    boxes: Tensor
    labels: Tensor
    matched: Tensor
    scores: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class StageTraining:
    """A box stage's part in a training step.

    Attributes:
        losses: ``box_class`` and ``box_regression``.
        positives: RoIs for the masks, of each image.
    """

    losses: dict[str, Tensor]
    positives: list[Positives]


class BoxCascade(nn.Module):
    """Box stages with rising IoU.

    Args:
        in_channels: Width of the RoI features.
        num_things: Thing categories.
        options: Heads, sampling, thresholds.
        iou_thresh: Of each stage.
    """

    def __init__(
        self, in_channels: int, num_things: int, *, options: RoIOptions, iou_thresh: Sequence[float]
    ) -> None:
        super().__init__()
        self.options = options
        self.iou_thresh = list(iou_thresh)
        self.stages = nn.ModuleList(
            BoxStage(
                BoxHead(
                    in_channels,
                    num_things,
                    fc_channels=options.box_fc_channels,
                    class_agnostic=len(self.iou_thresh) > 1,
                ),
                options=options,
                number=k + 1,
            )
            for k in range(len(self.iou_thresh))
        )

    def train_stages(
        self,
        proposals: Sequence[Tensor],
        targets: Sequence[TrainingTarget],
        *,
        pool: Pool,
        image_sizes: Sequence[tuple[int, int]],
        interleaved: bool,
        generator: torch.Generator,
    ) -> list[StageTraining]:
        """Losses of every stage, and the RoIs for the masks.

        Args:
            proposals: ``[N, 4]`` of each image.
            targets: Of each image.
            pool: RoI features.
            image_sizes: ``(height, width)`` without padding.
            interleaved: Masks train on the boxes that a stage makes, matched again, instead of on
                those that it is given.
            generator: Draws the samples; of the CPU.
        """
        boxes, result = proposals, []
        for k in range(len(self.stages)):
            samples = [
                sample_rois(
                    b, t, iou_thresh=self.iou_thresh[k], options=self.options, generator=generator
                )
                for b, t in zip(boxes, targets, strict=True)
            ]
            losses, scores, moved = self._train_stage(k, samples, targets, pool, image_sizes)
            boxes = [m[is_proper(m)] for m in moved]
            if interleaved:
                positives = [
                    self._match_again(self.iou_thresh[k], *parts, generator)
                    for parts in zip(moved, scores, targets, strict=True)
                ]
            else:
                positives = [_given(*parts) for parts in zip(samples, scores, strict=True)]
            result.append(StageTraining(losses, positives))
        return result

    def detect(
        self, proposals: Sequence[Tensor], *, pool: Pool, image_sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """Final boxes of each image.

        Args:
            proposals: ``[N, 4]`` of each image.
            pool: RoI features.
            image_sizes: ``(height, width)`` without padding.
        """
        boxes, scores, deltas = self._classify(proposals, pool, image_sizes)
        last = self._stage(-1)
        return [
            last.detect(*parts) for parts in zip(boxes, scores, deltas, image_sizes, strict=True)
        ]

    def score(
        self,
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        *,
        pool: Pool,
        image_sizes: Sequence[tuple[int, int]],
    ) -> list[Tensor]:
        """The score that a detection in each of these boxes would have.

        Args:
            boxes: ``[N, 4]`` of each image.
            labels: ``[N]`` thing category of each box.
            pool: RoI features.
            image_sizes: ``(height, width)`` without padding.

        Returns:
            ``[N]`` float32 in [0, 1] of each image.
        """
        _, scores, _ = self._classify(boxes, pool, image_sizes)
        return [
            of_image.gather(1, of_label[:, None])[:, 0]
            for of_image, of_label in zip(scores, labels, strict=True)
        ]

    def _classify(
        self, proposals: Sequence[Tensor], pool: Pool, image_sizes: Sequence[tuple[int, int]]
    ) -> tuple[list[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        """Of each image: boxes the last stage is given, mean scores, that stage's deltas."""
        boxes, counts = list(proposals), [len(p) for p in proposals]
        scores: list[Tensor] = []
        deltas: Sequence[Tensor] = ()
        for k in range(len(self.stages)):
            if k:
                best = torch.split(scores[-1].argmax(dim=1), counts)
                boxes = [
                    self._stage(k - 1).refine(*parts)
                    for parts in zip(boxes, best, deltas, image_sizes, strict=True)
                ]
            logits, flat_deltas = self._stage(k).head(pool(boxes))
            scores.append(logits.float().softmax(dim=1)[:, 1:])
            deltas = torch.split(flat_deltas.float(), counts)
        return boxes, torch.split(torch.stack(scores).mean(dim=0), counts), deltas

    def _stage(self, index: int) -> BoxStage:
        return cast(BoxStage, self.stages[index])

    def _train_stage(
        self,
        index: int,
        samples: Sequence[RoISample],
        targets: Sequence[TrainingTarget],
        pool: Pool,
        image_sizes: Sequence[tuple[int, int]],
    ) -> tuple[dict[str, Tensor], Sequence[Tensor], list[Tensor]]:
        """Losses; probabilities ``[M, num_things]`` and regressed boxes of each image."""
        stage = self._stage(index)
        features = pool([s.boxes for s in samples])
        if self.options.scale_gradient:
            features = _scale_gradient(features, 1 / len(self.stages))
        logits, deltas = stage.head(features)
        counts = [len(s.boxes) for s in samples]
        scores = torch.split(logits.detach().float().softmax(dim=1)[:, 1:], counts)
        moved = [
            stage.refine(sample.boxes, _regressed_as(sample, score), delta, size)
            for sample, score, delta, size in zip(
                samples, scores, torch.split(deltas.detach(), counts), image_sizes, strict=True
            )
        ]
        return stage.loss(logits, deltas, samples, targets), scores, moved

    def _match_again(
        self,
        iou_thresh: float,
        boxes: Tensor,
        scores: Tensor,
        target: TrainingTarget,
        generator: torch.Generator,
    ) -> Positives:
        matched = match_boxes(
            target.boxes, boxes, high=iou_thresh, low=iou_thresh, rescue=False
        )  # boxes without area have IoU 0
        drawn = sample_labels(
            torch.where(matched >= 0, 1, -1),
            num_samples=int(self.options.samples_per_image * self.options.positive_fraction),
            positive_fraction=1.0,
            generator=generator,
        )
        labels = target.labels[matched[drawn]]
        return Positives(boxes[drawn], labels, matched[drawn], scores[drawn, labels])


def _given(sample: RoISample, scores: Tensor) -> Positives:
    count, labels = len(sample.matched), sample.positive_labels
    rows = torch.arange(count, device=labels.device)
    return Positives(sample.positive_boxes, labels, sample.matched, scores[rows, labels])


def _regressed_as(sample: RoISample, scores: Tensor) -> Tensor:
    """``[M]``: the matched category of positives, the likeliest one of negatives."""
    return torch.where(sample.labels > 0, sample.labels - 1, scores.argmax(dim=1))


def _scale_gradient(features: Tensor, factor: float) -> Tensor:
    return features * factor + features.detach() * (1 - factor)
