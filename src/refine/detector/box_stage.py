"""One stage of box classification and regression on RoIs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, clip_boxes_to_image

from refine.detector.box_head import BoxHead
from refine.detector.box_loss import classification_loss, regression_loss
from refine.detector.proposals import BoxCoder, match_boxes
from refine.ops.boxes import is_proper, sample_labels
from refine.options import RoIOptions
from refine.types import TrainingTarget

CODE_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Scale of the box code of a plain head and of a cascade's first stage; stage k has k times it."""


@dataclass(frozen=True, slots=True, eq=False)
class RoISample:
    """RoIs of one image, drawn for the losses; the positives come first.

    Attributes:
        boxes: ``[M, 4]`` xyxy.
        labels: ``[M]`` int64 detector labels: 0 background, category + 1 otherwise.
        matched: ``[P]`` int64, instance that each of the P positives is matched to.
    """

    boxes: Tensor
    labels: Tensor
    matched: Tensor

    @property
    def positive_boxes(self) -> Tensor:
        """``[P, 4]``."""
        return self.boxes[: len(self.matched)]

    @property
    def positive_labels(self) -> Tensor:
        """``[P]`` thing categories."""
        return self.labels[: len(self.matched)] - 1


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Boxes of one image after NMS, best first.

    Attributes:
        boxes: ``[N, 4]`` xyxy, inside the image.
        scores: ``[N]`` in [0, 1].
        labels: ``[N]`` int64 thing categories.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def above(self, score: float) -> "Detections":
        """Those of at least this score."""
        kept = self.scores >= score
        return Detections(self.boxes[kept], self.scores[kept], self.labels[kept])


@torch.no_grad()
def sample_rois(
    proposals: Tensor,
    target: TrainingTarget,
    *,
    iou_thresh: float,
    options: RoIOptions,
    generator: torch.Generator,
) -> RoISample:
    """Match proposals to instances and draw a sample.

    The instances' own boxes are candidates too, so that there are positives from the first step.

    Args:
        proposals: ``[N, 4]`` of one image.
        target: Its instances.
        iou_thresh: Proposals at or above it are positive.
        options: Size of the sample.
        generator: Draws the sample.
    """
    candidates = torch.cat([proposals, target.boxes])
    matched = match_boxes(target.boxes, candidates, high=iou_thresh, low=iou_thresh, rescue=False)
    sampled = sample_labels(
        (matched >= 0).int(),
        num_samples=options.samples_per_image,
        positive_fraction=options.positive_fraction,
        generator=generator,
    )
    matched = matched[sampled]
    positive = matched >= 0
    labels = torch.zeros_like(matched)
    labels[positive] = target.labels[matched[positive]] + 1
    return RoISample(candidates[sampled], labels, matched[positive])


class BoxStage(nn.Module):
    """A box head with its code, losses and inference.

    Args:
        head: Classifier and regressor.
        options: Thresholds of the inference.
        number: Of the stage in its cascade, from 1.
    """

    def __init__(self, head: BoxHead, *, options: RoIOptions, number: int = 1) -> None:
        super().__init__()
        self.head = head
        self.options = options
        self.box_coder = BoxCoder(tuple(number * w for w in CODE_WEIGHTS))

    def loss(
        self,
        logits: Tensor,
        deltas: Tensor,
        samples: Sequence[RoISample],
        targets: Sequence[TrainingTarget],
    ) -> dict[str, Tensor]:
        """``box_class`` and ``box_regression`` of sampled RoIs.

        Args:
            logits: ``[sum M, 1 + num_things]`` of the head.
            deltas: ``[sum M, num_things or 1, 4]`` of the head.
            samples: Of each image.
            targets: Of each image.
        """
        labels = torch.cat([s.labels for s in samples])
        positive = labels > 0
        codes = _of_category(deltas[positive], labels[positive] - 1)
        code_targets = [
            self.box_coder.encode_single(t.boxes[s.matched], s.positive_boxes)
            for s, t in zip(samples, targets, strict=True)
        ]
        return {
            "box_class": classification_loss(logits, labels),
            "box_regression": regression_loss(
                codes, torch.cat(code_targets), num_samples=len(labels)
            ),
        }

    @torch.no_grad()
    def refine(
        self, boxes: Tensor, categories: Tensor, deltas: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """The boxes of one image as this stage regresses them.

        Args:
            boxes: ``[M, 4]``.
            categories: ``[M]`` thing categories whose regression is taken.
            deltas: ``[M, num_things or 1, 4]``.
            size: ``(height, width)`` that they are clipped to.

        Returns:
            ``[M, 4]``; some may have no area.
        """
        codes = _of_category(deltas.float(), categories)
        moved: Tensor = clip_boxes_to_image(self.box_coder.decode_single(codes, boxes), size)
        return moved

    def detect(
        self, proposals: Tensor, scores: Tensor, deltas: Tensor, size: tuple[int, int]
    ) -> Detections:
        """Final boxes of one image.

        Args:
            proposals: ``[M, 4]`` that the deltas belong to.
            scores: ``[M, num_things]`` in [0, 1].
            deltas: ``[M, num_things or 1, 4]``.
            size: ``(height, width)`` without padding.
        """
        options = self.options
        by_detectron2 = options.detection_rules == "detectron2"
        is_scored = (
            scores > options.score_thresh if by_detectron2 else scores >= options.score_thresh
        )
        # only pairs (RoI, category) that can survive are decoded
        roi, label = torch.nonzero(is_scored, as_tuple=True)
        boxes = self.refine(proposals[roi], label, deltas[roi], size)
        competes = torch.isfinite(boxes).all(dim=1) if by_detectron2 else is_proper(boxes)
        boxes, label, kept_scores = boxes[competes], label[competes], scores[roi, label][competes]
        keep = batched_nms(boxes, kept_scores, label, options.nms_thresh)[: options.max_detections]
        keep = keep[is_proper(boxes[keep])]
        return Detections(boxes[keep], kept_scores[keep], label[keep])


def _of_category(deltas: Tensor, categories: Tensor) -> Tensor:
    """``[M, 4]``: the category's code, or the one that serves all."""
    rows = torch.arange(len(deltas), device=deltas.device)
    columns = categories if deltas.shape[1] > 1 else torch.zeros_like(categories)
    return deltas[rows, columns]
