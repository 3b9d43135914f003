"""Boxes (xyxy in continuous pixels): anchors without rounding, sampling, validity."""

from collections.abc import Sequence

import torch
from torch import Tensor


def exact_anchors(
    grid_sizes: Sequence[tuple[int, int]],
    *,
    strides: Sequence[int],
    sizes_px: Sequence[float],
    aspect_ratios: Sequence[float],
    device: torch.device,
) -> list[Tensor]:
    """Anchors around the corner of every cell, as detectron2 lays them (offset 0).

    torchvision's generator rounds corners to whole pixels, and divides the image's size by the
    number of cells, which is not the stride where that does not divide the image.

    Args:
        grid_sizes: ``(height, width)`` of each level in cells.
        strides: Pixels per cell of each level.
        sizes_px: Root of the anchors' area at each level.
        aspect_ratios: Height over width.
        device: Device of the result.

    Returns:
        For each level ``[cells * ratios, 4]`` float32 xyxy: row by row, in a cell by aspect ratio.
    """
    ratios = torch.tensor(list(aspect_ratios), dtype=torch.float64)
    anchors = []
    for grid, stride, size in zip(grid_sizes, strides, sizes_px, strict=True):
        half = torch.stack([size / ratios.sqrt(), size * ratios.sqrt()], dim=1) / 2
        shapes = torch.cat([-half, half], dim=1).float().to(device)
        y, x = (torch.arange(n, device=device, dtype=torch.float32) * stride for n in grid)
        corners = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2).reshape(-1, 1, 2)
        anchors.append((corners.repeat(1, 1, 2) + shapes).reshape(-1, 4))
    return anchors


def sample_labels(
    labels: Tensor, *, num_samples: int, positive_fraction: float, generator: torch.Generator
) -> Tensor:
    """``[M]`` int64 indices of a random subset, positives first.

    Args:
        labels: ``[N]``; above 0 positive, 0 negative, below 0 never drawn.
        num_samples: Size of the subset; smaller if there are too few.
        positive_fraction: Largest share of ``num_samples`` that is positive.
        generator: On the CPU, so that the draw is the same on every device.
    """
    drawn: list[Tensor] = []
    limit = int(num_samples * positive_fraction)
    for candidates in (torch.nonzero(labels > 0)[:, 0], torch.nonzero(labels == 0)[:, 0]):
        order = torch.randperm(len(candidates), generator=generator)[:limit]
        drawn.append(candidates[order.to(candidates.device)])
        limit = num_samples - len(order)
    return torch.cat(drawn)


def is_proper(boxes: Tensor) -> Tensor:
    """``[N]`` bool: the box has an area and finite corners."""
    finite = torch.isfinite(boxes).all(dim=1)
    return finite & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
