"""Regions of interest of a batch: detections, samples to train on, and the instances they match."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from refine.ops.boxes import (
    Chosen,
    images_of_rows,
    is_proper,
    match_boxes,
    pad_images,
    rows_of_images,
    sample_labels,
)
from refine.ops.devices import find, send
from refine.options import RoIOptions
from refine.types import TrainingTarget

BACKGROUND = -1
"""Label and matched instance of RoIs that belong to no instance."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """True instances of a batch, image by image, and after them one that stands for none.

    So what :data:`BACKGROUND` finds here is no instance.

    Attributes:
        boxes: ``[T + 1, 4]`` xyxy network pixels; the last has no area.
        labels: ``[T + 1]`` int64 thing categories; the last is :data:`BACKGROUND`.
        rows: ``[B, G]`` int64 instances of each image; :data:`BACKGROUND` where it has no more.
        counts: How many each image has.
    """

    boxes: Tensor
    labels: Tensor
    rows: Tensor
    counts: list[int]

    @staticmethod
    def of(targets: Sequence[TrainingTarget]) -> "Truth":
        """The instances of these images."""
        boxes, labels = [t.boxes for t in targets], [t.labels for t in targets]
        counts = [len(b) for b in boxes]
        return Truth(
            torch.cat([*boxes, boxes[0].new_zeros(1, 4)]),
            torch.cat([*labels, labels[0].new_full((1,), BACKGROUND)]),
            rows_of_images(counts, boxes[0].device),
            counts,
        )


@dataclass(frozen=True, slots=True, eq=False)
class RoIs:
    """RoIs of a batch, image by image.

    Attributes:
        boxes: ``[N, 4]`` xyxy network pixels, without gradient.
        labels: ``[N]`` int64 thing categories, or :data:`BACKGROUND`.
        scores: ``[N]`` probabilities of these categories in [0, 1], without gradient.
        matched: ``[N]`` int64 true instances of the batch (:class:`Truth`) that the RoIs belong to,
            or :data:`BACKGROUND`.
        counts: How many RoIs each image has. The host knows, and need not wait for the device.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    matched: Tensor
    counts: list[int]

    @staticmethod
    def of_detections(
        boxes: Tensor, labels: Tensor, scores: Tensor, counts: list[int] | None = None
    ) -> "RoIs":
        """RoIs that are compared with no truth; of one image by default."""
        counts = [len(boxes)] if counts is None else counts
        return RoIs(boxes, labels, scores, torch.full_like(labels, BACKGROUND), counts)

    @staticmethod
    def concat(parts: Sequence["RoIs"]) -> "RoIs":
        """RoIs of some images, then those of others."""
        tensors = [(p.boxes, p.labels, p.scores, p.matched) for p in parts]
        boxes, labels, scores, matched = map(torch.cat, zip(*tensors, strict=True))
        return RoIs(boxes, labels, scores, matched, [n for p in parts for n in p.counts])

    @staticmethod
    def join(parts: Sequence["RoIs"]) -> "RoIs":
        """All RoIs of each image, one part after the other."""
        every = RoIs.concat(parts)
        counts = np.array([p.counts for p in parts])
        images = np.tile(np.arange(counts.shape[1]), len(parts)).repeat(counts.flatten())
        order = torch.from_numpy(images.argsort(kind="stable"))
        return every.select(Chosen(send(order, every.boxes.device), counts.sum(axis=0).tolist()))

    @property
    def images(self) -> Tensor:
        """``[N]`` int64: image of each RoI."""
        return images_of_rows(self.counts, self.boxes.device)

    @property
    def boxes_of_images(self) -> Sequence[Tensor]:
        """``[N_b, 4]`` of each image."""
        return torch.split(self.boxes, self.counts)

    @property
    def is_true(self) -> Tensor:
        """``[N]`` bool: the RoI belongs to an instance."""
        return self.matched >= 0

    def select(self, chosen: Chosen) -> "RoIs":
        """Some of the RoIs."""
        parts = (self.boxes, self.labels, self.scores, self.matched)
        boxes, labels, scores, matched = (part[chosen.index] for part in parts)
        return RoIs(boxes, labels, scores, matched, chosen.counts)

    def where(self, is_kept: Tensor) -> Chosen:
        """The RoIs where ``[N]`` bool is true; the host waits for the device."""
        numbers = torch.stack(
            [of_image.sum() for of_image in torch.split(is_kept, self.counts)]
        ).tolist()
        return Chosen(find(is_kept, sum(numbers)), numbers)


class RoISample(NamedTuple):
    """RoIs to train on, and those of them that belong to an instance: the first of each image."""

    rois: RoIs
    positives: Chosen


@torch.no_grad()
def sample_rois(
    proposals: Sequence[Tensor],
    truth: Truth,
    *,
    iou_thresh: float,
    options: RoIOptions,
    generator: torch.Generator,
) -> RoISample:
    """Match proposals to true instances and draw a sample; scores are 0.

    The true boxes are candidates too, so that there are positives from the first step. Proposals
    without area are none.

    Args:
        proposals: ``[N, 4]`` of each image.
        truth: True instances of the images.
        iou_thresh: Least IoU of a positive proposal with an instance.
        options: Size of the sample.
        generator: Generator of the draw; of the CPU.
    """
    rows = rows_of_images([len(p) for p in proposals], truth.boxes.device)
    padded = pad_images(torch.cat(list(proposals)), rows, 0)
    candidates = torch.cat([padded, truth.boxes[truth.rows]], dim=1)
    matched = _match(candidates, truth, iou_thresh).masked_fill_(~is_proper(candidates), -2)
    sampled, positives = sample_labels(
        matched,
        num_samples=options.samples_per_image,
        positive_fraction=options.positive_fraction,
        generator=generator,
    )
    boxes, instances = candidates.flatten(0, 1)[sampled.index], matched.flatten()[sampled.index]
    scores = boxes.new_zeros(len(boxes))
    rois = RoIs(boxes, truth.labels[instances], scores, instances, sampled.counts)
    return RoISample(rois, positives)


def match_to(boxes: Tensor, counts: Sequence[int], truth: Truth, iou_thresh: float) -> Tensor:
    """``[N]`` int64 instance that each box belongs to, or :data:`BACKGROUND`.

    There are ``counts`` boxes of each image.
    """
    rows = rows_of_images(counts, boxes.device)
    matched = _match(pad_images(boxes, rows, 0), truth, iou_thresh)
    return matched.flatten()[find((rows >= 0).flatten(), len(boxes))]


def _match(boxes: Tensor, truth: Truth, iou_thresh: float) -> Tensor:
    """``[B, N]`` instances of boxes ``[B, N, 4]``."""
    iou = {"high": iou_thresh, "low": iou_thresh}
    return match_boxes(truth.boxes, truth.rows, boxes, **iou, rescue=False)
