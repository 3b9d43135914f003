"""Triton kernel of :mod:`refine.ops.upsampled_loss`; GPUs alone import this."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from refine.types import IGNORE_INDEX, STRIDE

_SIDE = tl.constexpr(STRIDE)
_PIXELS = tl.constexpr(STRIDE**2)
_IGNORED = tl.constexpr(IGNORE_INDEX)
CHUNK, WARPS = 32, 1
"""Categories of 16 pixels that a program holds at a time, and its warps."""


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
    chunk: tl.constexpr,
    has_gradient: tl.constexpr,
) -> None:
    """One cell between four centres: its pixels' losses, and their gradient added to the four.

    Beyond the border the logits of the border go on.
    """
    i, j = turn // step + tl.program_id(1) * step, turn % step + tl.program_id(0) * step
    image = tl.program_id(2).to(tl.int64)
    target = _read_target(targets_ptr, image, i, j, height, width)
    above = (image * height + tl.maximum(i - 1, 0)) * width * num_categories
    below = (image * height + tl.minimum(i, height - 1)) * width * num_categories
    before, after = tl.maximum(j - 1, 0) * num_categories, tl.minimum(j, width - 1) * num_categories
    a, b, c, d = above + before, above + after, below + before, below + after

    # the scores are mixed anew for each use: they would not fit into the registers
    highest = tl.full([_PIXELS, chunk], -1e30, tl.float32)
    for begin in range(0, num_categories, chunk):
        scores = _mix(logits_ptr, a, b, c, d, begin + tl.arange(0, chunk), num_categories)
        highest = tl.maximum(highest, scores)
    peak = tl.max(highest, 1)
    totals = tl.zeros([_PIXELS, chunk], tl.float32)
    for begin in range(0, num_categories, chunk):
        scores = _mix(logits_ptr, a, b, c, d, begin + tl.arange(0, chunk), num_categories)
        totals += tl.exp(scores - peak[:, None])
    total = tl.sum(totals, 1)
    loss = tl.log(total) + peak - _read_own(logits_ptr, a, b, c, d, target, num_categories)
    out = sums_ptr + (image * (height + 1) + i) * (width + 1) + j
    tl.store(out, tl.sum(tl.where(target != _IGNORED, loss, 0.0), 0))
    if has_gradient:
        share = tl.where(target != _IGNORED, 1 / total, 0.0)[:, None]
        of_a, of_b, of_c, of_d = _shares()
        corner = gradient_ptr + ((image * (height + 2) + i) * (width + 2) + j) * num_categories
        for begin in range(0, num_categories, chunk):
            category = begin + tl.arange(0, chunk)
            scores = _mix(logits_ptr, a, b, c, d, category, num_categories)
            excess = tl.exp(scores - peak[:, None]) * share
            excess -= tl.where(category[None, :] == target[:, None], 1.0, 0.0)
            place, there = corner + category, category < num_categories
            _add(place, tl.sum(of_a[:, None] * excess, 0), there)
            _add(place + num_categories, tl.sum(of_b[:, None] * excess, 0), there)
            place += (width + 2) * num_categories
            _add(place, tl.sum(of_c[:, None] * excess, 0), there)
            _add(place + num_categories, tl.sum(of_d[:, None] * excess, 0), there)


@triton.jit  # type: ignore[untyped-decorator]
def _read_target(
    ptr: tl.tensor,
    image: tl.tensor,
    i: tl.tensor,
    j: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
) -> tl.tensor:
    """The category of each pixel of a cell."""
    pixel = tl.arange(0, _PIXELS)
    y, x = i * _SIDE - _SIDE // 2 + pixel // _SIDE, j * _SIDE - _SIDE // 2 + pixel % _SIDE
    there = (y >= 0) & (y < height * _SIDE) & (x >= 0) & (x < width * _SIDE)
    ptr += (image * height * _SIDE + y) * width * _SIDE + x
    return tl.load(ptr, mask=there, other=_IGNORED).to(tl.int32)


@triton.jit  # type: ignore[untyped-decorator]
def _shares() -> tl.tensor:
    """Of the four centres in each pixel of the cell."""
    pixel = tl.arange(0, _PIXELS)
    down, across = (pixel // _SIDE + 0.5) / _SIDE, (pixel % _SIDE + 0.5) / _SIDE
    up, back = 1 - down, 1 - across
    return up * back, up * across, down * back, down * across


@triton.jit  # type: ignore[untyped-decorator]
def _mix(
    ptr: tl.tensor,
    a: tl.tensor,
    b: tl.tensor,
    c: tl.tensor,
    d: tl.tensor,
    category: tl.tensor,
    num_categories: tl.tensor,
) -> tl.tensor:
    """Scores of some categories in all pixels."""
    of_a, of_b, of_c, of_d = _shares()
    ptr += category
    there = category < num_categories
    at_a = tl.load(ptr + a, mask=there, other=-1e30).to(tl.float32)[None, :]
    at_b = tl.load(ptr + b, mask=there, other=-1e30).to(tl.float32)[None, :]
    at_c = tl.load(ptr + c, mask=there, other=-1e30).to(tl.float32)[None, :]
    at_d = tl.load(ptr + d, mask=there, other=-1e30).to(tl.float32)[None, :]
    upper = of_a[:, None] * at_a + of_b[:, None] * at_b
    return upper + of_c[:, None] * at_c + of_d[:, None] * at_d


@triton.jit  # type: ignore[untyped-decorator]
def _read_own(
    ptr: tl.tensor,
    a: tl.tensor,
    b: tl.tensor,
    c: tl.tensor,
    d: tl.tensor,
    target: tl.tensor,
    num_categories: tl.tensor,
) -> tl.tensor:
    """The score of each pixel's own category; NaN if there is no such category."""
    of_a, of_b, of_c, of_d = _shares()
    there = target < num_categories
    ptr += tl.where(there, target, 0)
    upper = of_a * tl.load(ptr + a).to(tl.float32) + of_b * tl.load(ptr + b).to(tl.float32)
    lower = of_c * tl.load(ptr + c).to(tl.float32) + of_d * tl.load(ptr + d).to(tl.float32)
    return tl.where(there, upper + lower, float("nan"))


@triton.jit  # type: ignore[untyped-decorator]
def _add(ptr: tl.tensor, value: tl.tensor, mask: tl.tensor) -> None:
    tl.store(ptr, tl.load(ptr, mask=mask, other=0.0) + value, mask=mask)


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
        with torch.cuda.device(logits.get_device()):  # Triton takes the current one
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
                chunk=CHUNK,
                has_gradient=gradient is not None,
                num_warps=WARPS,
            )
    return sums
