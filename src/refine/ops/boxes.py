"""Boxes (xyxy in continuous pixels): anchors, codes, matching, sampling, validity.

Nothing here makes the host wait for the device, except :func:`sample_labels` once per call.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from refine.ops.devices import find, send


def lay_anchors(
    grid_sizes: Sequence[tuple[int, int]],
    *,
    strides: Sequence[tuple[int, int]],
    sizes_px: Sequence[float],
    aspect_ratios: Sequence[float],
    rounded: bool,
    device: torch.device,
) -> list[Tensor]:
    """Anchors around the corner of every cell, as detectron2 lays them (offset 0).

    Args:
        grid_sizes: ``(height, width)`` of each level in cells.
        strides: Pixels per cell of each level, down and across.
        sizes_px: Root of the anchors' area at each level.
        aspect_ratios: Height over width.
        rounded: Whether corners lie whole pixels from that of the cell (torchvision's anchors).
        device: Device of the result.

    Returns:
        For each level ``[cells * ratios, 4]`` float32 xyxy: row by row, in a cell by aspect ratio.
    """
    tall = torch.tensor(list(aspect_ratios), dtype=torch.float64).sqrt()
    anchors = []
    for grid, stride, size in zip(grid_sizes, strides, sizes_px, strict=True):
        half = torch.stack([size / tall, size * tall], dim=1) / 2
        shapes = torch.cat([-half, half], dim=1).float()
        y, x = (
            torch.arange(n, device=device, dtype=torch.float32) * step
            for n, step in zip(grid, stride, strict=True)
        )
        corners = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2).reshape(-1, 1, 2)
        cell = send(shapes.round() if rounded else shapes, device)
        anchors.append((corners.repeat(1, 1, 2) + cell).reshape(-1, 4))
    return anchors


@dataclass(frozen=True, slots=True)
class BoxCoder:
    """Boxes as codes relative to others: shift of the centre, logarithm of the growth.

    The same numbers as torchvision's, whose calls wait for the device.

    Attributes:
        weights: Factors on the four parts of a code: shift in x, in y, growth in width, in height.
    """

    weights: tuple[float, float, float, float]

    def encode(self, boxes: Tensor, references: Tensor) -> Tensor:
        """``[N, 4]`` codes of boxes relative to references, both ``[N, 4]`` with an area."""
        centre, size = _split(references)
        box_centre, box_size = _split(boxes)
        x, y = (box_centre - centre).unbind(dim=1)
        wide, high = size.unbind(dim=1)
        grows = torch.log(box_size / size).unbind(dim=1)
        a, b, c, d = self.weights
        return torch.stack([a * x / wide, b * y / high, c * grows[0], d * grows[1]], dim=1)

    def decode(self, codes: Tensor, references: Tensor) -> Tensor:
        """``[N, 4]`` boxes of codes relative to references; none grows more than 62.5 times."""
        centre, size = _split(references)
        x, y, wide, high = (c / w for c, w in zip(codes.unbind(dim=1), self.weights, strict=True))
        centre = torch.stack([x, y], dim=1) * size + centre
        growth = torch.stack([wide, high], dim=1).clamp(max=_MOST_GROWTH).exp()
        half = 0.5 * (growth * size)
        return torch.cat([centre - half, centre + half], dim=1)


_MOST_GROWTH = math.log(1000.0 / 16)


def _split(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and sizes, ``[N, 2]``."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, :2] + 0.5 * sizes, sizes


def limits_of(sizes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """``[B, 4]`` largest corners of boxes in images of ``(height, width)``."""
    return send(torch.tensor([(w, h, w, h) for h, w in sizes], dtype=torch.float32), device)


def clip_boxes(boxes: Tensor, limits: Tensor) -> Tensor:
    """Boxes ``[..., 4]`` inside the image: corners from 0 to these limits (:func:`limits_of`)."""
    return boxes.clamp(min=0).minimum(limits)


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """Some rows of a batch.

    Attributes:
        index: ``[S]`` int64 positions, image by image.
        counts: How many each image has; the host knows.
    """

    index: Tensor
    counts: list[int]


def images_of_rows(counts: Sequence[int], device: torch.device) -> Tensor:
    """``[sum(counts)]`` int64 image of each row, image by image."""
    images = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return send(images, device)


def rows_of_images(counts: Sequence[int], device: torch.device) -> Tensor:
    """``[B, max(counts)]`` int64 rows of each image; -1 where it has no more."""
    places, many = np.arange(max(counts)), np.array(counts)[:, None]
    rows = np.where(places < many, places + many.cumsum(axis=0) - many, -1)
    return send(torch.from_numpy(rows), device)


def pad_images(values: Tensor, rows: Tensor, fill: float) -> Tensor:
    """``[B, M, ...]`` of ``[N, ...]``: these rows (:func:`rows_of_images`), or ``fill``."""
    return torch.cat([values, values.new_full((1, *values.shape[1:]), fill)])[rows]


CPU_PAIRS, GPU_PAIRS = 2**18, 2**25
"""Pairs of boxes, of several images, compared at a time: those in a cache; four tensors of 0.1 GB.
"""


def match_boxes(
    truth: Tensor, rows: Tensor, candidates: Tensor, *, high: float, low: float, rescue: bool
) -> Tensor:
    """Row ``[B, N]`` int64 of the true box of each candidate; -1 negative, -2 neither.

    Args:
        truth: ``[T + 1, 4]``: boxes of all images, then one that stands for none.
        rows: ``[B, G]`` int64 those of each image; -1 where it has no more.
        candidates: ``[B, N, 4]``.
        high: Least IoU of a positive candidate.
        low: IoU below which a candidate is negative.
        rescue: Whether every true box also gets its best candidates, however low their IoU.
    """
    if not rows.shape[1]:
        return rows.new_full(candidates.shape[:2], -1)
    pairs = CPU_PAIRS if candidates.is_cpu else GPU_PAIRS
    images = max(1, pairs // max(1, rows.shape[1] * candidates.shape[1]))
    matched = []
    for of_images, boxes in zip(
        torch.split(rows, images), torch.split(candidates, images), strict=True
    ):
        absent = (of_images < 0)[:, :, None]
        shared, union = overlap(truth[of_images], boxes)
        iou = shared.div_(union).masked_fill_(absent, -1)
        best, nearest = iou.max(dim=1)
        nearest = of_images.gather(1, nearest)
        by_iou = nearest.masked_fill(best < high, -2).masked_fill_(best < low, -1)
        if rescue:
            most = iou.amax(dim=2, keepdim=True).masked_fill_(absent, torch.inf)
            by_iou = torch.where((iou == most).any(dim=1), nearest, by_iou)
        matched.append(by_iou)
    return torch.cat(matched)


def overlap(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Shared areas ``[B, N, M]`` of boxes ``[B, N, 4]`` and others ``[B, M, 4]``; their unions."""
    left, top, right, bottom = boxes[..., None].unbind(dim=2)
    begin, above, end, below = others.mT.contiguous()[:, :, None].unbind(dim=1)
    width = (right.minimum(end) - left.maximum(begin)).clamp_(min=0)
    shared = (bottom.minimum(below) - top.maximum(above)).clamp_(min=0).mul_(width)
    areas = (right - left) * (bottom - top), (end - begin) * (below - above)
    return shared, (areas[0] + areas[1]).sub_(shared)


def sample_labels(
    matched: Tensor,
    *,
    num_samples: int,
    positive_fraction: float,
    generator: torch.Generator,
) -> tuple[Chosen, Chosen]:
    """A random subset of each image's candidates: positions in all ``B * N``, positives first.

    The positives are returned once more, as positions in that subset.

    Args:
        matched: ``[B, N]`` as of :func:`match_boxes`; what is below -1 is never drawn.
        num_samples: Size of each subset; smaller if there are too few.
        positive_fraction: Largest share of ``num_samples`` that is positive.
        generator: On the CPU, so that the draw is the same on every device.
    """
    kinds = torch.stack([matched >= 0, matched == -1])
    counts = kinds.sum(dim=2).tolist()  # the host learns all counts at once
    ends = np.cumsum(counts).reshape(2, -1)
    places: list[np.ndarray] = []
    positives: list[np.ndarray] = []
    sizes: list[int] = []
    for count, end in zip(zip(*counts, strict=True), ends.T, strict=True):
        limit, drawn = int(num_samples * positive_fraction), []
        for of_kind, end_of_kind in zip(count, end, strict=True):
            drawn.append(_draw(of_kind, limit, generator) + end_of_kind - of_kind)
            limit = num_samples - len(drawn[-1])
        positives.append(np.arange(len(drawn[0])) + sum(sizes))
        places += drawn
        sizes.append(sum(map(len, drawn)))
    sent = send(torch.from_numpy(np.concatenate(places + positives)), matched.device)
    index, first = torch.split(sent, [sum(sizes), len(sent) - sum(sizes)])
    candidates = find(kinds.flatten(), int(ends[-1, -1]))
    drawn_rows = candidates[index] % matched.numel()
    return Chosen(drawn_rows, sizes), Chosen(first, [len(p) for p in positives])


def _draw(count: int, limit: int, generator: torch.Generator) -> np.ndarray:
    """``[min(count, limit)]`` int64 distinct numbers below ``count``."""
    if count <= limit:
        return np.arange(count)
    # a permutation of 200 000 anchors to draw 256 of them would take milliseconds per image
    seed = int(torch.randint(2**62, (), generator=generator))
    return np.random.default_rng(seed).choice(count, limit, replace=False)


def is_proper(boxes: Tensor) -> Tensor:
    """``[...]`` bool: a box of ``[..., 4]`` has an area and finite corners."""
    has_area = (boxes[..., 2:] > boxes[..., :2]).all(dim=-1)
    return torch.isfinite(boxes).all(dim=-1) & has_area
