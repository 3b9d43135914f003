"""Boxes (xyxy in continuous pixels): anchors, codes, matching, sampling, validity.

Nothing here makes the host wait for the device, except :func:`sample_labels` once per call.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

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


def match_boxes(
    truth: Tensor, candidates: Tensor, *, high: float, low: float, rescue: bool
) -> Tensor:
    """Index ``[N]`` int64 of the true box of each candidate; -1 negative, -2 neither.

    Args:
        truth: ``[G, 4]``.
        candidates: ``[N, 4]``.
        high: Least IoU of a positive candidate.
        low: IoU below which a candidate is negative.
        rescue: Whether every true box also gets its best candidates, however low their IoU.
    """
    if not len(truth):
        return torch.full((len(candidates),), -1, dtype=torch.int64, device=candidates.device)
    iou = box_iou(truth, candidates)
    best, nearest = iou.max(dim=0)
    matched = torch.where(best < low, -1, torch.where(best < high, -2, nearest))
    if rescue:
        is_best = (iou == iou.amax(dim=1, keepdim=True)).any(dim=0)
        matched = torch.where(is_best, nearest, matched)
    return matched


def sample_labels(
    labels: Sequence[Tensor],
    *,
    num_samples: int,
    positive_fraction: float,
    generator: torch.Generator,
) -> list[tuple[Tensor, int]]:
    """A random subset of each image's candidates: ``[M]`` int64, positives first; their number.

    Args:
        labels: ``[N]`` of each image; above 0 positive, 0 negative, below 0 never drawn.
        num_samples: Size of each subset; smaller if there are too few.
        positive_fraction: Largest share of ``num_samples`` that is positive.
        generator: On the CPU, so that the draw is the same on every device.
    """
    kinds = [(of_image > 0, of_image == 0) for of_image in labels]
    # the host learns all counts at once
    counts = torch.stack([kind.sum() for both in kinds for kind in both]).view(-1, 2).tolist()
    drawn = []
    for both, of_image in zip(kinds, counts, strict=True):
        limit, parts = int(num_samples * positive_fraction), []
        for kind, count in zip(both, of_image, strict=True):
            places = _draw(count, limit, generator)
            candidates = find(kind, count)
            parts.append(candidates[send(places, kind.device)])
            limit = num_samples - len(places)
        drawn.append((torch.cat(parts), len(parts[0])))
    return drawn


def _draw(count: int, limit: int, generator: torch.Generator) -> Tensor:
    """``[min(count, limit)]`` int64 distinct numbers below ``count``."""
    if count <= limit:
        return torch.arange(count)
    # a permutation of 200 000 anchors to draw 256 of them would take milliseconds per image
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.from_numpy(np.random.default_rng(seed).choice(count, limit, replace=False))


def is_proper(boxes: Tensor) -> Tensor:
    """``[...]`` bool: a box of ``[..., 4]`` has an area and finite corners."""
    has_area = (boxes[..., 2:] > boxes[..., :2]).all(dim=-1)
    return torch.isfinite(boxes).all(dim=-1) & has_area
