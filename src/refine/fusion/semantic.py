"""The category of every original pixel, from semantic logits at stride 4."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from refine.ops.arrays import find_best_columns
from refine.types import STRIDE

_CONTESTED = 255
_PIXELS_A_PASS = 32_768


def semantic_map(
    semantic_logits: Tensor,
    image_size: tuple[int, int],
    original_size: tuple[int, int],
    *,
    resize: str = "direct",
) -> np.ndarray:
    """Interpolate the logits to the original size and take the best category of every pixel.

    Directly, an original pixel's centre ``X + .5`` lies at ``(X + .5) * w / W / 4 - .5`` on the
    logits' grid (``w``, ``W``: width in network and original pixels). Cells of the padding count
    beside the last row and column of the image, because the loss in training interpolates over
    them, too. In two steps the logits first go to every network pixel, and those of the image,
    without the padding, to the original size; both steps are linear and become one.

    Interpolated values are convex combinations of a few cells, so where these agree on the best
    category nothing is computed. Only the remaining pixels are interpolated, some at a time.

    Args:
        semantic_logits: ``[C, h, w]`` float at stride 4 of the padded image, on any device.
        image_size: ``(height, width)`` in network pixels, without padding.
        original_size: ``(height, width)`` in original pixels.
        resize: ``direct`` or ``two_steps`` (:class:`~refine.options.FusionOptions`).

    Returns:
        ``[H, W]`` uint8 contiguous category at original size.

    Raises:
        ValueError: More than 255 categories.
    """
    num_categories, height, width = semantic_logits.shape
    if num_categories > _CONTESTED:
        raise ValueError(f"{num_categories} categories: expected at most {_CONTESTED}")
    table = semantic_logits.detach().float().flatten(1).T.contiguous()  # [h * w, C]
    find = _find_cells if resize == "direct" else _find_cells_in_two_steps
    (rows, row_weights), (columns, column_weights) = (
        [part.to(table.device) for part in find(cells, pixels=pixels, network=network)]
        for cells, pixels, network in zip((height, width), original_size, image_size, strict=True)
    )
    best = find_best_columns(table).byte().view(height, width)
    agreed = _agree(_agree(best, rows.shape[1], dim=0), columns.shape[1], dim=1)
    categories = agreed[rows[:, 0]][:, columns[:, 0]].flatten()
    for contested in torch.split((categories == _CONTESTED).nonzero()[:, 0], _PIXELS_A_PASS):
        y, x = contested // original_size[1], contested % original_size[1]
        cells = rows[y][:, :, None] * width + columns[x][:, None, :]
        weights = row_weights[y][:, :, None] * column_weights[x][:, None, :]
        mixed = F.embedding_bag(
            cells.flatten(1), table, per_sample_weights=weights.flatten(1), mode="sum"
        )
        categories[contested] = find_best_columns(mixed).byte()
    return categories.view(original_size).cpu().numpy()


def interpolate_logits(
    semantic_logits: Tensor,
    image_size: tuple[int, int],
    original_size: tuple[int, int],
    *,
    rows: slice,
    resize: str = "direct",
) -> Tensor:
    """``[C, n, W]`` float32: the logits in some rows of the image at original size.

    Arguments and interpolation are those of :func:`semantic_map`.
    """
    find = _find_cells if resize == "direct" else _find_cells_in_two_steps
    values = semantic_logits.detach().float()
    for dim, keep in ((1, rows), (2, slice(None))):
        cells, pixels, network = values.shape[dim], original_size[dim - 1], image_size[dim - 1]
        index, weights = (
            part[keep].to(values.device) for part in find(cells, pixels=pixels, network=network)
        )
        shape = (1, -1, 1) if dim == 1 else (1, 1, -1)
        values = torch.stack(
            [
                values.index_select(dim, index[:, k]) * weights[:, k].view(shape)
                for k in range(index.shape[1])
            ]
        ).sum(dim=0)
    return values


def _find_cells(
    cells: int, *, pixels: int, network: int, stride: float = STRIDE
) -> tuple[Tensor, Tensor]:
    """``[pixels, 2]`` int64 neighbouring cells of every pixel, and the float32 share of each."""
    scale = network / pixels / stride
    position = (torch.arange(pixels, dtype=torch.float64) + 0.5) * scale - 0.5
    position = position.clamp(0, cells - 1)
    first = position.long()
    after = (position - first).float()
    indices = torch.stack([first, first + 1], dim=1).clamp(max=cells - 1)
    return indices, torch.stack([1 - after, after], dim=1)


def _find_cells_in_two_steps(cells: int, *, pixels: int, network: int) -> tuple[Tensor, Tensor]:
    """Cells to network pixels, and those to original pixels: at most three cells each."""
    inner, inner_weights = _find_cells(cells, pixels=network, network=network)
    outer, outer_weights = _find_cells(network, pixels=pixels, network=network, stride=1)
    first = inner[outer[:, 0], 0]
    weights = torch.zeros(pixels, 3)
    for step, share in zip(outer.unbind(dim=1), outer_weights.unbind(dim=1), strict=True):
        place = (inner[step, 0] - first)[:, None] + torch.arange(2)
        weights.scatter_add_(1, place, share[:, None] * inner_weights[step])
    return (first[:, None] + torch.arange(3)).clamp(max=cells - 1), weights


def _agree(labels: Tensor, span: int, *, dim: int) -> Tensor:
    """The label that each cell shares with the ``span - 1`` after it along an axis, or 255."""
    agreed = labels
    index = torch.arange(labels.shape[dim], device=labels.device)
    for step in range(1, span):
        other = labels.index_select(dim, (index + step).clamp(max=len(index) - 1))
        agreed = torch.where(agreed == other, agreed, _CONTESTED)
    return agreed
