"""Regions of interest of one image: detections, samples to train on, and their mask targets."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from refine.detector.mask_head import MASK_SIDE
from refine.detector.proposals import match_boxes
from refine.ops.boxes import sample_labels
from refine.ops.masks import roi_mask_targets
from refine.options import RoIOptions
from refine.types import MaskCrop, TrainingTarget

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
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    matched: Tensor

    @staticmethod
    def of_detections(boxes: Tensor, labels: Tensor, scores: Tensor) -> "RoIs":
        """RoIs that are compared with no truth."""
        return RoIs(boxes, labels, scores, torch.full_like(labels, BACKGROUND))

    @staticmethod
    def join(parts: Iterable["RoIs"]) -> "RoIs":
        """All RoIs of some groups, one group after the other."""
        tensors = [(p.boxes, p.labels, p.scores, p.matched) for p in parts]
        return RoIs(*(torch.cat(column) for column in zip(*tensors, strict=True)))

    @property
    def is_true(self) -> Tensor:
        """``[N]`` bool: the RoI belongs to an instance."""
        return self.matched >= 0

    def select(self, index: Tensor) -> "RoIs":
        """The RoIs at these positions (int64), or where this is true (bool)."""
        return RoIs(self.boxes[index], self.labels[index], self.scores[index], self.matched[index])


@torch.no_grad()
def sample_rois(
    proposals: Tensor,
    target: TrainingTarget,
    *,
    iou_thresh: float,
    options: RoIOptions,
    generator: torch.Generator,
) -> RoIs:
    """Match proposals to true instances and draw a sample, positives first; scores are 0.

    The true boxes are candidates too, so that there are positives from the first step.

    Args:
        proposals: ``[N, 4]`` of one image.
        target: True instances of the image.
        iou_thresh: Least IoU of a positive proposal with an instance.
        options: Size of the sample.
        generator: Generator of the draw; of the CPU.
    """
    candidates = torch.cat([proposals, target.boxes])
    matched = match_boxes(target.boxes, candidates, high=iou_thresh, low=iou_thresh, rescue=False)
    sampled = sample_labels(
        (matched >= 0).int(),
        num_samples=options.samples_per_image,
        positive_fraction=options.positive_fraction,
        generator=generator,
    )
    boxes, matched = candidates[sampled], matched[sampled]
    labels = torch.full_like(matched, BACKGROUND)
    labels[matched >= 0] = target.labels[matched[matched >= 0]]
    return RoIs(boxes, labels, boxes.new_zeros(len(boxes)), matched)


def compute_mask_targets(
    positives: Sequence[RoIs], outline: Callable[[int, int], MaskCrop]
) -> Tensor:
    """``[sum P, 28, 28]`` soft masks in [0, 1] of the RoIs that belong to an instance.

    ``outline`` returns an instance by the positions of its image and of itself in the image.
    """
    masks = []
    for image, every in enumerate(positives):
        rois = every.select(every.is_true)
        outlines = [outline(image, instance) for instance in rois.matched.tolist()]
        soft = roi_mask_targets(outlines, rois.boxes.cpu().numpy(), MASK_SIDE)
        masks.append(torch.from_numpy(soft).to(rois.boxes.device))
    return torch.cat(masks)
