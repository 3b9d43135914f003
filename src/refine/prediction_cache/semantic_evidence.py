"""Semantic logits in a few bytes per cell: the categories that can decide something.

What fusion takes from the logits does not change if all logits of one cell move together: the best
category at any point between cells, and softmax. So only *gaps* to a cell's best logit are kept,
and not all of them.

Interpolated values are convex combinations of the corners of a quad of cells. Hence some category
reaches, everywhere in a quad, at least the level ``L`` = (maximum over categories of its smallest
gap at the corners), and a category whose largest gap at the corners lies below ``L`` wins nowhere
in the quad. Its largest ``margin`` (largest gap of a quad less ``L``) over the four quads around a
cell tells whether a category matters there. Kept are, of each cell, its best category and those of
a margin of at least ``-MARGIN``; if these are too many, the ones of the largest margins.

All others of a cell share one gap, the *floor*: the log of the mean of their exponentials. So a
cell's softmax stays right, and as a mean never exceeds the largest of them, the floor wins nowhere,
either. The semantic map is that of the full logits up to float16 (one pixel in 100 000), as long as
the entries of margin 0 and above fit in: trained networks have 1.4 to 2.5 of them per cell.
"""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

MARGIN = 4.0
"""Below margin 0 a category cannot win, but it has a share of the probability between cells."""

ENTRIES_PER_CELL = 7
"""Limit of the average: 24 bytes per cell, 1.6 MB for the 200 x 336 cells of 800 x 1333 pixels."""

_ROWS_A_PASS = 16  # their gaps stay in the processor's cache: half the time of one pass
_LOWEST = -65504.0  # of float16


def compress_logits(
    logits: Tensor, *, entries_per_cell: int = ENTRIES_PER_CELL
) -> dict[str, Tensor]:
    """The entries that matter of ``[C, h, w]`` finite float logits, at most 255 categories.

    An image has at most ``entries_per_cell`` (at least 1) times as many as cells.

    Returns:
        ``counts`` ``[h, w]`` uint8 entries of each cell; ``categories`` ``[E]`` uint8 and ``gaps``
        ``[E]`` float16 (<= 0) of the entries, cells in row order; ``floor`` ``[h, w]`` float16.
    """
    num_categories, height, width = logits.shape
    strips = [_strip_entries(logits, first) for first in range(0, height, _ROWS_A_PASS)]
    places, gaps, margins, rest = (torch.cat(parts) for parts in zip(*strips, strict=True))
    kept = torch.zeros_like(margins, dtype=torch.bool)
    most = min(entries_per_cell * height * width, len(margins))
    kept[margins.topk(most, sorted=False).indices] = True
    cells = places // num_categories
    rest.index_add_(0, cells[~kept], gaps[~kept].exp())
    counts = torch.bincount(cells[kept], minlength=height * width)
    floor = (rest / (num_categories - counts).clamp(min=1)).log()
    return {
        "counts": counts.byte().view(height, width),
        "categories": (places[kept] % num_categories).byte(),
        "gaps": gaps[kept].clamp(min=_LOWEST).half(),
        "floor": floor.clamp(_LOWEST, 0).half().view(height, width),
    }


def restore_logits(parts: Mapping[str, Tensor], num_categories: int) -> Tensor:
    """``[C, h, w]`` float32 logits that stand in for those of :func:`compress_logits`.

    The categories of a cell lie side by side in memory, as fusion reads them. A ``ValueError`` if
    the parts contradict each other.
    """
    counts = parts["counts"].flatten().long()
    categories = parts["categories"].long()
    if int(counts.sum()) != len(categories) or bool((categories >= num_categories).any()):
        raise ValueError("counts and categories do not fit together")
    table = parts["floor"].float().view(-1, 1).repeat(1, num_categories)  # [h * w, C]
    first = torch.arange(0, table.numel(), num_categories)
    table.view(-1)[torch.repeat_interleave(first, counts) + categories] = parts["gaps"].float()
    return table.T.view(num_categories, *parts["floor"].shape)


def _strip_entries(logits: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places in ``[h, w, C]``, gaps and margins of the entries of a strip of rows; cells' rest."""
    num_categories, height, width = logits.shape
    last = min(first + _ROWS_A_PASS, height)
    above, below = min(first, 1), min(height - last, 1)
    inside = logits[:, first - above : last + below].float()
    # one cell more on each side, at the border the same again: such a quad asks for nothing new
    padded = F.pad(inside, (1, 1, 1 - above, 1 - below), mode="replicate")
    strip = padded.permute(1, 2, 0).contiguous()
    strip -= strip.amax(dim=2, keepdim=True)
    gaps = strip[1:-1, 1:-1].reshape(-1, num_categories)
    margins = _margins(strip).reshape(-1, num_categories)
    margins.scatter_(1, gaps.argmax(dim=1, keepdim=True), math.inf)
    is_candidate = margins >= -MARGIN
    rest = gaps.masked_fill(is_candidate, -math.inf).exp().sum(dim=1)
    places = is_candidate.flatten().nonzero()[:, 0]
    offset = first * width * num_categories
    return places + offset, gaps.flatten()[places], margins.flatten()[places], rest


def _margins(gaps: Tensor) -> Tensor:
    """``[r + 2, w + 2, C]`` gaps to ``[r, w, C]``: largest over the four quads around a cell."""
    level = _over_quads(gaps, torch.minimum).amax(dim=2, keepdim=True)
    return _over_quads(_over_quads(gaps, torch.maximum) - level, torch.maximum)


def _over_quads(values: Tensor, reduce: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    rows = reduce(values[1:], values[:-1])
    return reduce(rows[:, 1:], rows[:, :-1])
