"""RoIAlign on a CPU: sums of rows of a feature that is channels last in memory.

The samples of a bin lie close together, so most of their neighbours are the same few cells. Here a
bin is the sum of these, each once, with its whole weight. torchvision's kernel reads four cells for
each sample, channel by channel, and wants channels first.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHUNK = 32  # RoIs whose bins are laid out together, as if all had as many cells as the largest


def pool_rows(
    feature: Tensor, rois: Tensor, side: int, *, spatial_scale: float, sampling_ratio: int
) -> Tensor:
    """Torchvision's ``roi_align(aligned=True)``, ``[N, C, side, side]`` channels last in memory.

    Fastest where neighbouring RoIs have similar sizes. Only the feature has a gradient, no second.

    Args:
        feature: ``[B, C, h, w]`` float32 on the CPU, best channels last.
        rois: ``[N, 5]`` float32: number of the image, then xyxy network pixels. A RoI with a corner
            that is not finite is empty, which gives zeros.
        side: Side of the result.
        spatial_scale: Cells per network pixel.
        sampling_ratio: Samples per bin and axis; 0 adapts to the RoI.
    """
    _, channels, height, width = feature.shape
    rows = feature.permute(0, 2, 3, 1).reshape(-1, channels)
    cells = _list_cells(rois.numpy(), (height, width), side, spatial_scale, sampling_ratio)
    sums: Tensor = _SumRows.apply(rows, *map(torch.from_numpy, cells))
    return sums.view(len(rois), side, side, channels).permute(0, 3, 1, 2)


class _SumRows(torch.autograd.Function):
    """The product of a sparse matrix ``[bins, rows]``, in compressed rows, with the rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, cells: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
        ctx.save_for_backward(cells, weights, starts)
        ctx.num_rows = len(rows)
        return _sum_rows(rows.detach(), cells, weights, starts)  # without what its gradient needs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        cells, weights, starts = (part.numpy() for part in ctx.saved_tensors)
        matrix = csr_array((weights, cells, starts), shape=(len(grad), ctx.num_rows)).tocsc()
        parts = (torch.from_numpy(a) for a in (matrix.indices, matrix.data, matrix.indptr))
        return _sum_rows(grad.contiguous(), *parts), None, None, None


def _sum_rows(rows: Tensor, cells: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
    return F.embedding_bag(
        cells, rows, starts, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


def _list_cells(
    rois: np.ndarray, shape: tuple[int, int], side: int, scale: float, sampling_ratio: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells (int32) and weights of all bins ``[N * side * side]``, and where each bin starts."""
    height, width = shape
    corners = rois[:, 1:] * np.float32(scale) - np.float32(0.5)
    corners[~np.isfinite(corners).all(axis=1)] = -2  # no cell is near
    first_lines = rois[:, :1].astype(np.int32) * height
    counts, cells, weights = [], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    for begin in range(0, len(rois), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        x0, y0, x1, y1 = corners[part].T
        columns, across = _weigh_axis(x0, x1, side, width, sampling_ratio)
        lines, down = _weigh_axis(y0, y1, side, height, sampling_ratio)
        lines = (lines + first_lines[part, :, None]) * np.int32(width)
        places = lines[:, :, None, :, None] + columns[:, None, :, None, :]
        shares = down[:, :, None, :, None] * across[:, None, :, None, :]
        is_used = shares != 0
        counts.append(np.count_nonzero(is_used, axis=(3, 4)).ravel())
        cells.append(places[is_used])
        weights.append(shares[is_used])
    starts = np.cumsum(np.concatenate([[0], *counts]), dtype=np.int32)
    return np.concatenate(cells), np.concatenate(weights), starts


def _weigh_axis(
    start: np.ndarray, stop: np.ndarray, side: int, length: int, sampling_ratio: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cells (int32) and weights ``[n, side, K]`` along an axis; spans in cells, less one half.

    In float32 in torchvision's order: the number of samples must not differ.
    """
    size = ((stop - start) / np.float32(side))[:, None, None]
    grid = np.full_like(size, sampling_ratio) if sampling_ratio else np.ceil(size).clip(0)
    steps = np.arange(int(grid.max(initial=0)), dtype=np.float32)
    bins = np.arange(side, dtype=np.float32)[:, None]
    divisor = grid.clip(1)
    positions = start[:, None, None] + bins * size + (steps + np.float32(0.5)) * size / divisor
    is_used = (steps < grid) & (positions >= -1) & (positions <= length)
    positions = positions.clip(0, length - 1)
    low = positions.astype(np.int32)
    first = low.min(axis=2, where=is_used, initial=length - 1, keepdims=True)
    offsets = np.where(is_used, low - first, 0)
    count = int(offsets.max(initial=0)) + 2  # the last one may have no weight
    fractions, shares = positions - low, is_used / divisor
    table = np.arange(first.size).reshape(first.shape) * count + offsets
    shape, total = (*first.shape[:2], count), first.size * count
    weights = np.bincount(table.ravel(), (shares * (1 - fractions)).ravel(), total)
    weights += np.bincount(table.ravel() + 1, (shares * fractions).ravel(), total)
    cells = first + np.arange(count, dtype=np.int32)
    return cells, weights.reshape(shape).astype(np.float32)
