"""Regions of interest of one image: detections, samples to train on, and their mask targets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from refine.ops.boxes import is_proper, match_boxes, sample_labels
from refine.options import RoIOptions
from refine.types import TrainingTarget

BACKGROUND = -1
"""Label and matched instance of RoIs that belong to no instance."""


@dataclass(frozen=True, slots=True, eq=False)
class RoIs:
    """RoIs of one image.

    Attributes:
        boxes: ``[N, 4]`` xyxy network pixels, without gradient.
        labels: ``[N]`` int64 thing categories, or :data:`BACKGROUND`.
        scores: ``[N]`` probabilities of these categories in [0, 1], without gradient.
        matched: ``[N]`` int64 true instances that the RoIs belong to, or :data:`BACKGROUND`.
        num_positives: In a sample, how many belong to an instance; they come first. The host knows
            the number, and need not wait for the device to select them.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    matched: Tensor
    num_positives: int = 0

    @property
    def positives(self) -> "RoIs":
        """The RoIs that belong to an instance."""
        count = self.num_positives
        boxes, labels, scores, matched = (
            part[:count] for part in (self.boxes, self.labels, self.scores, self.matched)
        )
        return RoIs(boxes, labels, scores, matched, num_positives=count)

    @staticmethod
    def of_detections(boxes: Tensor, labels: Tensor, scores: Tensor) -> "RoIs":
        """RoIs that are compared with no truth."""
        return RoIs(boxes, labels, scores, torch.full_like(labels, BACKGROUND))

    @staticmethod
    def join(parts: Iterable["RoIs"]) -> "RoIs":
        """All RoIs of some groups, one group after the other."""
        tensors = [(p.boxes, p.labels, p.scores, p.matched) for p in parts]
        boxes, labels, scores, matched = map(torch.cat, zip(*tensors, strict=True))
        return RoIs(boxes, labels, scores, matched)

    @property
    def is_true(self) -> Tensor:
        """``[N]`` bool: the RoI belongs to an instance."""
        return self.matched >= 0

    def select(self, index: Tensor) -> "RoIs":
        """Detections at these positions (int64), or where this is true (bool)."""
        return RoIs(self.boxes[index], self.labels[index], self.scores[index], self.matched[index])


@torch.no_grad()
def sample_rois(
    proposals: Sequence[Tensor],
    targets: Sequence[TrainingTarget],
    *,
    iou_thresh: float,
    options: RoIOptions,
    generator: torch.Generator,
) -> list[RoIs]:
    """Match proposals to true instances and draw a sample; scores are 0.

    The true boxes are candidates too, so that there are positives from the first step. Proposals
    without area are none.

    Args:
        proposals: ``[N, 4]`` of each image.
        targets: True instances of each image.
        iou_thresh: Least IoU of a positive proposal with an instance.
        options: Size of the sample.
        generator: Generator of the draw; of the CPU.
    """
    candidates = [torch.cat([p, t.boxes]) for p, t in zip(proposals, targets, strict=True)]
    matched = match_to(candidates, targets, iou_thresh)
    sampled = sample_labels(
        [
            torch.where(is_proper(boxes), (of_image >= 0).int(), -1)
            for boxes, of_image in zip(candidates, matched, strict=True)
        ],
        num_samples=options.samples_per_image,
        positive_fraction=options.positive_fraction,
        generator=generator,
    )
    rois = []
    for boxes, of_image, target, (drawn, count) in zip(
        candidates, matched, targets, sampled, strict=True
    ):
        instances = of_image[drawn]
        labels, scores = labels_of(target, instances), boxes.new_zeros(len(drawn))
        rois.append(RoIs(boxes[drawn], labels, scores, instances, num_positives=count))
    return rois


def labels_of(target: TrainingTarget, instances: Tensor) -> Tensor:
    """``[N]`` int64 labels of instances, or :data:`BACKGROUND` for that."""
    none = target.labels.new_full((1,), BACKGROUND)
    return torch.cat([target.labels, none])[instances]  # -1 is the last one


def match_to(
    boxes: Sequence[Tensor], targets: Sequence[TrainingTarget], iou_thresh: float
) -> list[Tensor]:
    """``[N]`` int64 instance that each box of each image belongs to, or :data:`BACKGROUND`."""
    iou = {"high": iou_thresh, "low": iou_thresh}
    images = zip(boxes, targets, strict=True)
    return [match_boxes(t.boxes, b, **iou, rescue=False) for b, t in images]
