"""Detections of one image in several views: at other sizes, or mirrored."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.ops import batched_nms

from refine.detector.rois import RoIs
from refine.ops.boxes import Chosen
from refine.options import RoIOptions
from refine.types import Batch, RawPrediction, Sample, View

Frame = tuple[tuple[int, int], bool]
"""``(height, width)`` of a view in network pixels, and whether it is mirrored left and right."""


def to_batch(view: View, sample: Sample, device: torch.device) -> Batch:
    """One view of a photo on the device, padded to a multiple of 32."""
    height, width = view.image.shape[1:]
    images = pad(view.image.to(device), (0, -width % 32, 0, -height % 32))[None]
    return Batch(images=images, image_sizes=((height, width),), samples=(sample,))


def merge_detections(
    found: Sequence[RoIs], frames: Sequence[Frame], options: RoIOptions
) -> list[RoIs]:
    """The detections of all views together, after NMS, as each view sees them.

    Args:
        found: Detections in each view, in its network pixels.
        frames: The views.
        options: ``nms_thresh`` and ``max_detections``.
    """
    moved = [
        RoIs.of_detections(move_boxes(r.boxes, frame, frames[0]), r.labels, r.scores)
        for r, frame in zip(found, frames, strict=True)
    ]
    every = RoIs.join(moved)
    best = batched_nms(every.boxes, every.scores, every.labels, options.nms_thresh)
    best = best[: options.max_detections]
    kept = every.select(Chosen(best, [len(best)]))
    return [
        RoIs.of_detections(move_boxes(kept.boxes, frames[0], frame), kept.labels, kept.scores)
        for frame in frames
    ]


def move_boxes(boxes: Tensor, source: Frame, target: Frame) -> Tensor:
    """``[N, 4]`` xyxy boxes of one view, as another view of the image sees them."""
    (height, width), (new_height, new_width) = source[0], target[0]
    left, top, right, bottom = boxes.unbind(dim=1)
    if source[1] != target[1]:
        left, right = width - right, width - left
    across, down = new_width / width, new_height / height
    return torch.stack([left * across, top * down, right * across, bottom * down], dim=1)


def average_masks(raws: Sequence[RawPrediction], are_flipped: Sequence[bool]) -> RawPrediction:
    """The first of several predictions of the same detections, with their mean mask probabilities.

    Those of mirrored views are turned back.
    """
    if len(raws) == 1:
        return raws[0]
    masks = [
        raw.mask_logits.sigmoid().flip(-1) if is_flipped else raw.mask_logits.sigmoid()
        for raw, is_flipped in zip(raws, are_flipped, strict=True)
    ]
    return replace(raws[0], mask_logits=torch.stack(masks).mean(dim=0).logit(eps=1e-6))
