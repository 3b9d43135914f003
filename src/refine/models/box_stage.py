"""One stage of box classification and regression on RoIs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, clip_boxes_to_image

from refine.losses.box import classification_loss, regression_loss
from refine.models.proposals import BoxCoder, match_boxes
from refine.modules.box_head import BoxHead
from refine.ops.boxes import is_proper, sample_labels
from refine.options import RoIOptions
from refine.types import TrainingTarget

CODE_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Scale of the box code of a plain head (and of a cascade's first stage)."""


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


@torch.no_grad()
def sample_rois(
    proposals: Tensor,
    target: TrainingTarget,
    *,
    options: RoIOptions,
    generator: torch.Generator,
) -> RoISample:
    """Match proposals to instances and draw a sample.

    The instances' own boxes are candidates too, so that there are positives from the first step.

    Args:
        proposals: ``[N, 4]`` of one image.
        target: Its instances.
        options: IoU threshold and size of the sample.
        generator: Draws the sample.
    """
    candidates = torch.cat([proposals, target.boxes])
    matched = match_boxes(
        target.boxes, candidates, high=options.iou_thresh, low=options.iou_thresh, rescue=False
    )
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
    """

    def __init__(self, head: BoxHead, *, options: RoIOptions) -> None:
        super().__init__()
        self.head = head
        self.options = options
        self.box_coder = BoxCoder(CODE_WEIGHTS)

    def loss(
        self,
        roi_features: Tensor,
        samples: Sequence[RoISample],
        targets: Sequence[TrainingTarget],
    ) -> dict[str, Tensor]:
        """``box_class`` and ``box_regression`` of sampled RoIs.

        Args:
            roi_features: ``[sum M, C, 7, 7]``.
            samples: Of each image.
            targets: Of each image.
        """
        logits, deltas = self.head(roi_features)
        labels = torch.cat([s.labels for s in samples])
        positive = labels > 0
        codes = deltas[positive, labels[positive] - 1]
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

    def detect(
        self,
        roi_features: Tensor,
        proposals: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
    ) -> list[Detections]:
        """Final boxes of each image.

        Args:
            roi_features: ``[sum N, C, 7, 7]``.
            proposals: ``[N, 4]`` of each image.
            image_sizes: ``(height, width)`` without padding.
        """
        logits, deltas = self.head(roi_features)
        scores = logits.float().softmax(dim=1)[:, 1:]
        counts = [len(p) for p in proposals]
        return [
            self._detect_one(p, s, d, size)
            for p, s, d, size in zip(
                proposals,
                scores.split(counts),
                deltas.float().split(counts),
                image_sizes,
                strict=True,
            )
        ]

    def _detect_one(
        self, proposals: Tensor, scores: Tensor, deltas: Tensor, size: tuple[int, int]
    ) -> Detections:
        options = self.options
        # only pairs (RoI, category) that can survive are decoded
        roi, label = torch.nonzero(scores >= options.score_thresh, as_tuple=True)
        boxes = self.box_coder.decode_single(deltas[roi, label], proposals[roi])
        boxes = clip_boxes_to_image(boxes, size)
        proper = is_proper(boxes)
        boxes, label, kept_scores = boxes[proper], label[proper], scores[roi, label][proper]
        keep = batched_nms(boxes, kept_scores, label, options.nms_thresh)[: options.max_detections]
        return Detections(boxes[keep], kept_scores[keep], label[keep])
