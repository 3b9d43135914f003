"""Greedy NMS of proposals, level by level, over a batch of images.

Two forms of one function. torchvision's goes through the boxes of an image one after the other, and
leaves a GPU idle meanwhile: on an H200, 16 images took about a sixth of a training step. The other
form asks of all boxes of all images at once who is beaten by a survivor, until nothing changes.
After d rounds every box is right that ends a chain of d boxes, each beating the next; so the last
round is the greedy answer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from refine.ops.boxes import GPU_PAIRS, Chosen, overlap, pad_images, rows_of_images
from refine.ops.devices import find

_ROUNDS = 8  # between two looks at whether anything has changed, for which the host waits


def select_by_nms(
    boxes: Tensor,
    scores: Tensor,
    candidates: Tensor,
    *,
    counts: Sequence[int],
    iou_thresh: float,
    limit: int,
) -> Chosen:
    """The boxes of all ``B * N`` that survive, image by image, best first.

    Of equal scores the earlier position is better.

    Args:
        boxes: ``[B, N, 4]`` xyxy, level by level, each level best first.
        scores: ``[B, N]``, any real numbers.
        candidates: ``[B, N]`` bool: the others neither survive nor beat any.
        counts: Boxes of each level, N together; boxes of different levels do not compete.
        iou_thresh: A box with a larger IoU with a better survivor is beaten.
        limit: Most survivors of an image.
    """
    form = _one_by_one if boxes.is_cpu else select_at_once
    return form(boxes, scores, candidates, counts=counts, iou_thresh=iou_thresh, limit=limit)


def _one_by_one(
    boxes: Tensor,
    scores: Tensor,
    candidates: Tensor,
    *,
    counts: Sequence[int],
    iou_thresh: float,
    limit: int,
) -> Chosen:
    level = torch.arange(len(counts)).repeat_interleave(torch.tensor(list(counts)))
    selected = []
    for k, number in enumerate(candidates.sum(dim=1).tolist()):
        index = find(candidates[k], number)
        kept = index[batched_nms(boxes[k, index], scores[k, index], level[index], iou_thresh)]
        kept = kept.sort().values  # the order of equals is theirs in the image
        best = scores[k, kept].sort(descending=True, stable=True).indices
        selected.append(kept[best[:limit]] + k * scores.shape[1])
    return Chosen(torch.cat(selected), [len(index) for index in selected])


def select_at_once(
    boxes: Tensor,
    scores: Tensor,
    candidates: Tensor,
    *,
    counts: Sequence[int],
    iou_thresh: float,
    limit: int,
) -> Chosen:
    """The form for GPUs; arguments as of :func:`select_by_nms`."""
    rows = rows_of_images(counts, boxes.device)
    beats = _find_beaten(_by_level(boxes, rows), iou_thresh)
    competes = _by_level(candidates, rows)
    alive = competes
    while True:
        for _ in range(_ROUNDS):
            before = alive
            with torch.autocast(boxes.device.type, enabled=False):  # it would copy the matrices
                beaten = (alive.to(beats.dtype)[:, None] @ beats)[:, 0] > 0
            alive = competes & ~beaten
        if torch.equal(alive, before):
            break
    by_level = alive.view(len(rows), len(scores), -1).transpose(0, 1).flatten(1)
    alive = by_level[:, find((rows >= 0).flatten(), sum(counts))]
    survivors = torch.where(alive, scores, -torch.inf)  # topk would not keep the order of equals
    order = survivors.sort(dim=1, descending=True, stable=True).indices[:, :limit]
    order += torch.arange(len(scores), device=order.device)[:, None] * scores.shape[1]
    numbers = alive.sum(dim=1).clamp(max=limit)
    survives = torch.arange(order.shape[1], device=order.device) < numbers[:, None]
    counts = numbers.tolist()
    return Chosen(order.flatten()[find(survives.flatten(), sum(counts))], counts)


def _by_level(values: Tensor, rows: Tensor) -> Tensor:
    """``[L * B, M, ...]`` of ``[B, N, ...]``: these rows ``[L, M]`` of each image, or zero."""
    return pad_images(values.transpose(0, 1), rows, 0).transpose(1, 2).flatten(0, 1)


def _find_beaten(boxes: Tensor, iou_thresh: float) -> Tensor:
    """``[L, M, M]``: 1 where the box of the row beats that of the column, which comes later."""
    dtype = torch.float32 if boxes.is_cpu else torch.float16  # for sums of ones
    count = boxes.shape[1]
    beats = torch.empty(len(boxes), count, count, dtype=dtype, device=boxes.device)
    levels = max(1, GPU_PAIRS // count**2)
    for part, some in zip(torch.split(beats, levels), torch.split(boxes, levels), strict=True):
        shared, union = overlap(some, some)
        part.copy_((shared > union.mul_(iou_thresh)).triu(diagonal=1))
    return beats
