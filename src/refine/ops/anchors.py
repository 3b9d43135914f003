"""The anchors of a proposal network, without rounding."""

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

    torchvision's generator rounds corners to whole pixels, and spaces a level by the image's size
    over its cells, which is not the stride where that does not divide the image.

    Args:
        grid_sizes: ``(height, width)`` of each level in cells.
        strides: Of the levels.
        sizes_px: Root of the anchors' area at each level.
        aspect_ratios: Height over width.
        device: Of the result.

    Returns:
        One ``[height * width * len(aspect_ratios), 4]`` float32 xyxy a level: row by row, and in
        each cell one an aspect ratio.
    """
    ratios = torch.tensor(list(aspect_ratios), dtype=torch.float64)
    anchors = []
    for (height, width), stride, size in zip(grid_sizes, strides, sizes_px, strict=True):
        half = torch.stack([size / ratios.sqrt(), size * ratios.sqrt()], dim=1) / 2
        shapes = torch.cat([-half, half], dim=1).float().to(device)
        y = torch.arange(height, device=device, dtype=torch.float32) * stride
        x = torch.arange(width, device=device, dtype=torch.float32) * stride
        corners = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2).reshape(-1, 1, 2)
        anchors.append((corners.repeat(1, 1, 2) + shapes).reshape(-1, 4))
    return anchors
