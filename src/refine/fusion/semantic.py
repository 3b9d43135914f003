"""From semantic logits at stride 4 to the category of every original pixel."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

STRIDE = 4
_CONTESTED = 255
_PIXELS_A_PASS = 32_768


def semantic_map(
    semantic_logits: Tensor, image_size: tuple[int, int], original_size: tuple[int, int]
) -> np.ndarray:
    """Interpolate the logits once, straight to the original size, and take the best category.

    An original pixel's centre ``X + .5`` lies at ``(X + .5) * w / W / 4 - .5`` on the logits' grid
    (``w``, ``W``: width in network and original pixels). Cells of the padding count beside the last
    row and column of the image, because the loss in training interpolates over them, too.

    Interpolated values are convex combinations of four cells, so where the four agree on the best
    category nothing is computed. Only the remaining pixels are interpolated, some at a time; there
    is never a tensor of all categories at original size.

    Args:
        semantic_logits: ``[C, h, w]`` float at stride 4 of the padded image, at most 255
            categories, on any device.
        image_size: ``(height, width)`` in network pixels, without padding.
        original_size: ``(height, width)`` in original pixels.

    Returns:
        ``[H, W]`` uint8 contiguous category at original size.

    Raises:
        ValueError: More than 255 categories.
    """
    num_categories, height, width = semantic_logits.shape
    if num_categories > _CONTESTED:
        raise ValueError(f"{num_categories} categories: expected at most {_CONTESTED}")
    table = semantic_logits.detach().float().flatten(1).T.contiguous()  # [h * w, C]
    agreed = _agreed_categories(table.argmax(dim=1).view(height, width))
    rows, columns = (
        [t.to(table.device) for t in _neighbours(cells, pixels=pixels, scale=network / pixels)]
        for cells, pixels, network in zip((height, width), original_size, image_size, strict=True)
    )
    categories = agreed[rows[0]][:, columns[0]].flatten()
    for contested in torch.split((categories == _CONTESTED).nonzero()[:, 0], _PIXELS_A_PASS):
        row = [t[contested // original_size[1]] for t in rows]
        column = [t[contested % original_size[1]] for t in columns]
        logits = _interpolate(table, row, column, width=width)
        categories[contested] = logits.argmax(dim=1).byte()
    return categories.view(original_size).cpu().numpy()


def _agreed_categories(best: Tensor) -> Tensor:
    """``[h, w]`` uint8: what a cell and its neighbours right, below and diagonal all say."""
    own = best.byte()
    below = torch.cat([own[1:], own[-1:]])
    right = torch.cat([own[:, 1:], own[:, -1:]], dim=1)
    diagonal = torch.cat([right[1:], right[-1:]])
    agree = (own == below) & (own == right) & (own == diagonal)
    return torch.where(agree, own, _CONTESTED)


def _neighbours(cells: int, *, pixels: int, scale: float) -> list[Tensor]:
    """Per pixel of an axis: cell before it, cell after it, weight of the latter."""
    position = (torch.arange(pixels, dtype=torch.float64) + 0.5) * (scale / STRIDE) - 0.5
    position = position.clamp(0, cells - 1)
    before = position.long()
    return [before, (before + 1).clamp(max=cells - 1), (position - before).float()]


def _interpolate(table: Tensor, row: list[Tensor], column: list[Tensor], *, width: int) -> Tensor:
    """``[n, C]`` logits at n pixels, each given by its two rows and columns and their weight."""
    above, below, down = row
    left, right, across = column
    cells = torch.stack(
        [above * width + left, above * width + right, below * width + left, below * width + right],
        dim=1,
    )
    weights = torch.stack(
        [(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across], dim=1
    )
    return F.embedding_bag(cells, table, per_sample_weights=weights, mode="sum")
