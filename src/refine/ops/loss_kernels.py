"""Triton kernel of :mod:`refine.ops.upsampled_loss`; GPUs alone import this."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from refine.types import IGNORE_INDEX, STRIDE

_SIDE = tl.constexpr(STRIDE)
_IGNORED = tl.constexpr(IGNORE_INDEX)


@triton.jit  # type: ignore[untyped-decorator]
def _cell_kernel(  # noqa: PLR0913 - a kernel takes every size by itself
    logits_ptr: tl.tensor,
    targets_ptr: tl.tensor,
    gradient_ptr: tl.tensor,
    sums_ptr: tl.tensor,
    turn: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    num_categories: tl.tensor,
    step: tl.constexpr,
    categories: tl.constexpr,
    has_gradient: tl.constexpr,
) -> None:
    """One cell between four centres: its pixels' losses, and their gradient added to the four."""
    i = turn // step + tl.program_id(1) * step
    j = turn % step + tl.program_id(0) * step
    image = tl.program_id(2).to(tl.int64)
    category = tl.arange(0, categories)
    row, column = tl.arange(0, _SIDE * _SIDE) // _SIDE, tl.arange(0, _SIDE * _SIDE) % _SIDE
    target = _read_target(targets_ptr, image, i, j, height, width)

    # beyond the border the logits of the border go on
    above = (image * height + tl.maximum(i - 1, 0)) * width
    below = (image * height + tl.minimum(i, height - 1)) * width
    before, after = tl.maximum(j - 1, 0), tl.minimum(j, width - 1)
    down, across = (row + 0.5) / _SIDE, (column + 0.5) / _SIDE
    of_a, of_b = ((1 - down) * (1 - across))[:, None], ((1 - down) * across)[:, None]
    of_c, of_d = (down * (1 - across))[:, None], (down * across)[:, None]
    scores = of_a * _read(logits_ptr, above + before, category, num_categories)
    scores += of_b * _read(logits_ptr, above + after, category, num_categories)
    scores += of_c * _read(logits_ptr, below + before, category, num_categories)
    scores += of_d * _read(logits_ptr, below + after, category, num_categories)

    is_target = category[None, :] == target[:, None]
    scores -= tl.max(scores, 1)[:, None]
    powers = tl.exp(scores)
    total = tl.sum(powers, 1)
    loss = tl.log(total) - tl.sum(tl.where(is_target, scores, 0.0), 1)
    loss = tl.where(target < num_categories, loss, float("nan"))  # no such category
    out = sums_ptr + (image * (height + 1) + i) * (width + 1) + j
    tl.store(out, tl.sum(tl.where(target != _IGNORED, loss, 0.0), 0))
    if has_gradient:
        excess = powers / total[:, None] - tl.where(is_target, 1.0, 0.0)
        excess = tl.where((target != _IGNORED)[:, None], excess, 0.0)
        place = (image * (height + 2) + i) * (width + 2) + j
        _add(gradient_ptr, place, tl.sum(of_a * excess, 0), category, num_categories)
        _add(gradient_ptr, place + 1, tl.sum(of_b * excess, 0), category, num_categories)
        place += width + 2
        _add(gradient_ptr, place, tl.sum(of_c * excess, 0), category, num_categories)
        _add(gradient_ptr, place + 1, tl.sum(of_d * excess, 0), category, num_categories)


@triton.jit  # type: ignore[untyped-decorator]
def _read_target(
    ptr: tl.tensor,
    image: tl.tensor,
    i: tl.tensor,
    j: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
) -> tl.tensor:
    pixel = tl.arange(0, _SIDE * _SIDE)
    y, x = i * _SIDE - _SIDE // 2 + pixel // _SIDE, j * _SIDE - _SIDE // 2 + pixel % _SIDE
    there = (y >= 0) & (y < height * _SIDE) & (x >= 0) & (x < width * _SIDE)
    ptr += (image * height * _SIDE + y) * width * _SIDE + x
    return tl.load(ptr, mask=there, other=_IGNORED).to(tl.int32)


@triton.jit  # type: ignore[untyped-decorator]
def _read(
    ptr: tl.tensor, place: tl.tensor, category: tl.tensor, num_categories: tl.tensor
) -> tl.tensor:
    there = category < num_categories
    logits = tl.load(ptr + place * num_categories + category, mask=there, other=-1e30)
    return logits.to(tl.float32)[None, :]


@triton.jit  # type: ignore[untyped-decorator]
def _add(
    ptr: tl.tensor,
    place: tl.tensor,
    value: tl.tensor,
    category: tl.tensor,
    num_categories: tl.tensor,
) -> None:
    there = category < num_categories
    ptr += place * num_categories + category
    tl.store(ptr, tl.load(ptr, mask=there, other=0.0) + value, mask=there)


def add_cells(logits: Tensor, targets: Tensor, gradient: Tensor | None) -> Tensor:
    """``[B, h + 1, w + 1]`` float32: the summed loss of the pixels of every cell.

    Args:
        logits: ``[B, h, w, C]``, contiguous.
        targets: ``[B, 4 h, 4 w]`` uint8, contiguous.
        gradient: ``[B, h + 2, w + 2, C]`` float32, contiguous, to which that of every cell is
            added, or None. Neighbouring cells take turns, so that the sums are always the same.
    """
    batch, height, width, num_categories = logits.shape
    sums = logits.new_empty((batch, height + 1, width + 1), dtype=torch.float32)
    step = 1 if gradient is None else 2
    for turn in range(step**2):
        down, across = divmod(turn, step)
        grid = (triton.cdiv(width + 1 - across, step), triton.cdiv(height + 1 - down, step), batch)
        _cell_kernel[grid](
            logits,
            targets,
            sums if gradient is None else gradient,
            sums,
            turn,
            height,
            width,
            num_categories,
            step=step,
            categories=triton.next_power_of_2(num_categories),
            has_gradient=gradient is not None,
        )
    return sums
