"""From semantic logits at stride 4 to the category of every original pixel."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

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
    category nothing is computed. Only the remaining pixels are interpolated, some at a time; there
    is never a tensor of all categories at original size.

    Args:
        semantic_logits: ``[C, h, w]`` float at stride 4 of the padded image, at most 255
            categories, on any device.
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
    rows, columns = (
        find(cells, pixels=pixels, network=network).to(table.device)
        for cells, pixels, network in zip((height, width), original_size, image_size, strict=True)
    )
    best = table.argmax(dim=1).byte().view(height, width)
    agreed = _agree(_agree(best, rows.span, dim=0), columns.span, dim=1)
    categories = agreed[rows.first][:, columns.first].flatten()
    for contested in torch.split((categories == _CONTESTED).nonzero()[:, 0], _PIXELS_A_PASS):
        row = rows.at(contested // original_size[1])
        column = columns.at(contested % original_size[1])
        categories[contested] = _interpolate(table, row, column).argmax(dim=1).byte()
    return categories.view(original_size).cpu().numpy()


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Along one axis: the neighbouring cells that every pixel is a mixture of.

    Attributes:
        first: ``[n]`` int64, the first of them.
        weights: ``[n, span]`` float32, share of each.
        count: Cells on the axis; those beyond the last are the last again.
    """

    first: Tensor
    weights: Tensor
    count: int

    @property
    def span(self) -> int:
        """Cells a pixel."""
        return self.weights.shape[1]

    @property
    def indices(self) -> Tensor:
        """``[n, span]`` int64."""
        steps = torch.arange(self.span, device=self.first.device)
        return (self.first[:, None] + steps).clamp(max=self.count - 1)

    def at(self, pixels: Tensor) -> "_Cells":
        """Those of some pixels."""
        return _Cells(self.first[pixels], self.weights[pixels], self.count)

    def to(self, device: torch.device) -> "_Cells":
        """The same on a device."""
        return _Cells(self.first.to(device), self.weights.to(device), self.count)


def _find_cells(cells: int, *, pixels: int, network: int, stride: float = STRIDE) -> _Cells:
    """Bilinear interpolation, half-pixel centres."""
    scale = network / pixels / stride
    position = (torch.arange(pixels, dtype=torch.float64) + 0.5) * scale - 0.5
    position = position.clamp(0, cells - 1)
    before = position.long()
    after = (position - before).float()
    return _Cells(before, torch.stack([1 - after, after], dim=1), cells)


def _find_cells_in_two_steps(cells: int, *, pixels: int, network: int) -> _Cells:
    """Cells to network pixels, and those to original pixels: at most three cells each."""
    inner = _find_cells(cells, pixels=network, network=network)
    outer = _find_cells(network, pixels=pixels, network=network, stride=1)
    before, after = (inner.at(index) for index in outer.indices.unbind(dim=1))
    weights = torch.zeros(pixels, 3)
    for step, share in zip((before, after), outer.weights.unbind(dim=1), strict=True):
        place = (step.first - before.first)[:, None] + torch.arange(2)
        weights.scatter_add_(1, place, share[:, None] * step.weights)
    return _Cells(before.first, weights, cells)


def _agree(labels: Tensor, span: int, *, dim: int) -> Tensor:
    """What each cell and those after it along an axis all say; else contested."""
    agreed = labels
    index = torch.arange(labels.shape[dim], device=labels.device)
    for step in range(1, span):
        other = labels.index_select(dim, (index + step).clamp(max=len(index) - 1))
        agreed = torch.where(agreed == other, agreed, _CONTESTED)
    return agreed


def _interpolate(table: Tensor, row: _Cells, column: _Cells) -> Tensor:
    """``[n, C]`` logits at n pixels, each given by its cells along both axes."""
    cells = row.indices[:, :, None] * column.count + column.indices[:, None, :]
    weights = row.weights[:, :, None] * column.weights[:, None, :]
    return F.embedding_bag(
        cells.flatten(1), table, per_sample_weights=weights.flatten(1), mode="sum"
    )
