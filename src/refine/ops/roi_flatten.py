"""ROI-Flatten: masks on RoIs drawn on a canvas of planes, the reverse of RoIAlign (REFINE, eq. 5).

The geometry is that of :mod:`refine.ops.masks` at a stride. Outside its box a mask would still fade
to zero over half a cell, which is many pixels of a large box: that halo is cut, so that nothing is
drawn where the detector says the instance is not.

Two forms of one function. On the CPU each RoI costs two small matrix products on the pixels of its
own box, and numpy's calls are the cheapest way to that. On other devices all RoIs are drawn at once
on a stack ``[N, h, w]``. They agree up to rounding, and so on the winner of exact ties; where TF32
is switched on for matrix products the stack is good to 1e-3 only.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from refine.types import STRIDE

REDUCTIONS = ("max", "mean")

_Shape = tuple[int, int, int]
_Placement = tuple[tuple[int, slice, slice], np.ndarray, np.ndarray]
"""Window of the canvas, rows and columns: a RoI shows ``rows @ mask @ columns.T`` there."""


def flatten_rois(
    masks: Tensor,
    boxes: Tensor,
    planes: Tensor,
    *,
    num_planes: int,
    size: tuple[int, int],
    stride: int = STRIDE,
    reduce: str = "max",
) -> Tensor:
    """Draw RoI masks on a canvas, differentiably.

    Pixel ``(u, v)`` of the canvas shows a mask where its centre ``((u + .5) stride,
    (v + .5) stride)`` lies in the box, left and top edge included, right and bottom one not.

    The gradient reaches the masks only. That of the maximum goes to the mask whose value the pixel
    shows: among equals to the first, and to none where the maximum is 0. There is no second
    derivative on the CPU.

    Args:
        masks: ``[N, m, m]`` probabilities in [0, 1], not logits: beyond the mask there is zero.
        boxes: ``[N, 4]`` xyxy network pixels; may reach beyond the canvas. Boxes without area or
            with corners that are not finite draw nothing.
        planes: ``[N]`` int64 plane (thing category) of each mask, in ``[0, num_planes)``.
        num_planes: Planes of the canvas.
        size: ``(h, w)`` of the canvas.
        stride: Network pixels per canvas pixel.
        reduce: ``max`` of the masks of a plane, or ``mean`` of those whose box holds the pixel.

    Returns:
        ``[num_planes, h, w]`` canvas in [0, 1], float32 even under autocast (float64 for float64
        masks). Part of the masks' graph even if N is 0.

    Raises:
        ValueError: Shapes do not fit together, ``reduce`` is unknown, or a plane does not exist
            (other devices than the CPU raise their own error for the last).
    """
    if reduce not in REDUCTIONS:
        raise ValueError(f"reduce={reduce!r}: expected one of {', '.join(REDUCTIONS)}")
    count = len(masks)
    if masks.ndim != 3 or boxes.shape != (count, 4) or planes.shape != (count,):
        raise ValueError(
            f"masks {tuple(masks.shape)}, boxes {tuple(boxes.shape)} and planes "
            f"{tuple(planes.shape)} do not fit together: expected [N, m, m], [N, 4] and [N]"
        )
    flatten = flatten_by_crops if masks.device.type == "cpu" else flatten_by_stack
    values = masks if masks.dtype == torch.float64 else masks.float()
    with torch.autocast(masks.device.type, enabled=False):
        return flatten(
            values, boxes.detach(), planes, shape=(num_planes, *size), stride=stride, reduce=reduce
        )


def flatten_by_stack(
    masks: Tensor, boxes: Tensor, planes: Tensor, *, shape: _Shape, stride: int, reduce: str
) -> Tensor:
    """The form for any device; arguments as of :func:`flatten_rois`, ``shape`` of the canvas."""
    canvas = masks.new_zeros(shape)
    if not len(masks):
        return canvas + masks.sum() * 0
    _, height, width = shape
    rows, holds_row = _axis_weights(boxes[:, 1::2], masks.shape[1], height, stride, masks.dtype)
    columns, holds_column = _axis_weights(boxes[:, ::2], masks.shape[2], width, stride, masks.dtype)
    stack = rows @ masks @ columns.transpose(1, 2)  # [N, h, w]
    if reduce == "mean":
        held = (holds_row[:, :, None] & holds_column[:, None]).to(masks.dtype)
        counts = canvas.index_add(0, planes, held)
        return canvas.index_add(0, planes, stack) / counts.clamp(min=1)
    winners = _first_winners(stack.detach(), planes, canvas)
    drawn = stack.gather(0, winners.clamp(max=len(masks) - 1))
    return torch.where(winners < len(masks), drawn, 0)


def _axis_weights(
    spans: Tensor, side: int, length: int, stride: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """``[N, length, side]`` interpolation weights, ``[N, length]`` whether the box holds it."""
    # positions in float64, so that large coordinates keep their fractions; MPS has none
    exact = torch.float32 if spans.device.type == "mps" else torch.float64
    start, stop = (spans.to(exact) / stride)[:, :, None].unbind(1)  # [N, 1]
    centres = torch.arange(length, device=spans.device, dtype=exact) + 0.5
    finite = torch.isfinite(start) & torch.isfinite(stop)
    held = finite & (centres >= start) & (centres < stop)
    cells = (centres - start) * (side / (stop - start)) - 0.5
    knots = torch.arange(side, device=spans.device, dtype=exact)
    weights = (1 - (cells[:, :, None] - knots).abs()).clamp(min=0)
    return torch.where(held[:, :, None], weights, 0).to(dtype), held


def _first_winners(stack: Tensor, planes: Tensor, canvas: Tensor) -> Tensor:
    """``[planes, h, w]`` int64: the first mask with the plane's maximum; N where that is 0."""
    count = len(stack)
    plane_index = planes[:, None, None].expand_as(stack)
    highest = canvas.scatter_reduce(0, plane_index, stack, "amax")
    wins = (stack > 0) & (stack == highest[planes])
    order = torch.arange(count, device=stack.device)[:, None, None]
    nobody = torch.full_like(canvas, count, dtype=torch.int64)
    return nobody.scatter_reduce(0, plane_index, torch.where(wins, order, count), "amin")


def flatten_by_crops(
    masks: Tensor, boxes: Tensor, planes: Tensor, *, shape: _Shape, stride: int, reduce: str
) -> Tensor:
    """The form for the CPU; arguments as of :func:`flatten_rois`, ``shape`` of the canvas."""
    placements = _place(masks, boxes, planes, shape=shape, stride=stride)
    canvas: Tensor = _FlattenCrops.apply(masks, placements, shape, reduce)
    return canvas


class _FlattenCrops(torch.autograd.Function):
    """The drawing with its transpose; between them one small integer a canvas pixel is kept."""

    @staticmethod
    def forward(
        ctx: Any, masks: Tensor, placements: Sequence[_Placement], shape: _Shape, reduce: str
    ) -> Tensor:
        canvas, ctx.owners = _draw(masks.detach().numpy(), placements, shape, reduce)
        ctx.placements, ctx.mask_shape, ctx.reduce = placements, masks.shape, reduce
        return torch.from_numpy(canvas)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_canvas: Tensor) -> tuple[Tensor | None, ...]:
        grad = grad_canvas.numpy()
        grad_masks = np.empty(ctx.mask_shape, grad.dtype)
        for number, (window, rows, columns) in enumerate(ctx.placements, 1):
            owners = ctx.owners[window]
            own = grad[window]
            share = own / owners if ctx.reduce == "mean" else np.where(owners == number, own, 0)
            np.matmul(rows.T @ share, columns, out=grad_masks[number - 1])
        return torch.from_numpy(grad_masks), None, None, None


def _draw(
    masks: np.ndarray, placements: Sequence[_Placement], shape: _Shape, reduce: str
) -> tuple[np.ndarray, np.ndarray]:
    """The canvas; and each pixel's winner, from 1 on (``mean``: how many boxes hold it)."""
    canvas = np.zeros(shape, masks.dtype)
    owners = np.zeros(shape, np.min_scalar_type(len(masks)))
    if reduce == "mean":
        for window, _, _ in placements:
            owners[window] += 1
    for number, (window, rows, columns) in enumerate(placements, 1):
        crop, shown = rows @ masks[number - 1] @ columns.T, canvas[window]
        if reduce == "mean":
            shown += crop / owners[window]
        else:
            wins = crop > shown
            np.copyto(owners[window], number, where=wins)
            np.copyto(shown, crop, where=wins)
    return canvas, owners


def _place(
    masks: Tensor, boxes: Tensor, planes: Tensor, *, shape: _Shape, stride: int
) -> list[_Placement]:
    num_planes, height, width = shape
    _, side_y, side_x = masks.shape
    numbers = planes.tolist()
    # a negative one would be counted from the end
    if numbers and not 0 <= min(numbers) <= max(numbers) < num_planes:
        raise ValueError(f"planes reach from {min(numbers)} to {max(numbers)} of {num_planes}")
    dtype = np.float64 if masks.dtype == torch.float64 else np.float32
    corners = boxes.double().numpy() / stride
    corners[~np.isfinite(corners).all(axis=1)] = 0
    rows = _span_weights(corners[:, 1], corners[:, 3], side=side_y, length=height, dtype=dtype)
    columns = _span_weights(corners[:, 0], corners[:, 2], side=side_x, length=width, dtype=dtype)
    placed = zip(numbers, rows, columns, strict=True)
    return [((plane, y, x), by_row, by_column) for plane, (y, by_row), (x, by_column) in placed]


def _span_weights(
    start: np.ndarray, stop: np.ndarray, *, side: int, length: int, dtype: type
) -> Iterator[tuple[slice, np.ndarray]]:
    """The pixels whose centres lie in each span, and their weights ``[pixels, side]``."""
    first, last = (np.clip(np.ceil(e - 0.5), 0, length).astype(np.int64) for e in (start, stop))
    last = np.maximum(last, first)
    counts = last - first
    # all spans in one array: numpy's calls cost more than their work on a single span
    ends = np.cumsum(counts)
    begins = ends - counts
    pixels = np.arange(counts.sum()) - np.repeat(begins - first, counts)
    with np.errstate(divide="ignore"):
        scale = side / (stop - start)
    # counted from the cell before the mask: inside the box every position has two neighbours
    positions = (pixels + 0.5 - np.repeat(start, counts)) * np.repeat(scale, counts) + 0.5
    before = positions.astype(np.int64)
    fractions = positions - before
    each = np.arange(len(positions))
    weights: np.ndarray = np.zeros((len(positions), side + 2), dtype)
    weights[each, before] = 1 - fractions
    weights[each, before + 1] = fractions
    for a, b, c, d in zip(*(v.tolist() for v in (first, last, begins, ends)), strict=True):
        yield slice(a, b), weights[c:d, 1:-1]
