"""RoIAlign of features that are channels last, by Triton; GPUs alone import this.

It is torchvision's (``aligned=True``) in the type of the features, with sums in float32. The mean
of a bin's samples is separable, ``out[p, q] = sum_x A[q, x] sum_y D[p, y] F[y, x]``: ``D`` and
``A`` are means, over the samples of a bin down and across, of their weights of bilinear
interpolation. A program of the gradient owns a tile of the map and sums what all RoIs give to it:
nothing is added atomically, and the same input gives the same bits.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

_COLUMNS = 16  # columns of the map that a program of the forward pass reads together
_TILE = (8, 8)  # rows and columns of the map that a program of the gradient owns
_TILE_CHANNELS = 128
_TILE_BINS = 32  # bins in one product
_LOOK = 64  # RoIs that such a program looks at together
# sizes change from batch to batch: nothing is compiled anew for them
_jit = triton.jit(do_not_specialize=["level", "height", "width"])


@triton.jit  # type: ignore[untyped-decorator]
def _axis(
    box_ptr: tl.tensor, scale: tl.tensor, side: tl.constexpr, ratio: tl.constexpr
) -> tuple[tl.tensor, ...]:
    """Start of the RoI in cells, size of a bin, number of its samples; all along one axis."""
    start = tl.load(box_ptr) * scale - 0.5
    step = tl.div_rn(tl.maximum(tl.load(box_ptr + 2) * scale - 0.5 - start, 0.0), side * 1.0)
    return start, step, ratio * 1.0 if ratio > 0 else tl.ceil(step)


@triton.jit  # type: ignore[untyped-decorator]
def _weights(
    number: tl.tensor, cell: tl.tensor, start: tl.tensor, step: tl.tensor, samples: tl.tensor,
    size: tl.tensor, reach: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Weights of cells in bins, two axes that broadcast: means over the samples of a bin.

    At most ``reach`` of them are near a cell: adaptive ones are more than half a cell apart.
    """
    begin = (start + number * step)[:, :, None]
    cell = (cell * 1.0)[:, :, None]
    gap = tl.maximum(step / tl.maximum(samples, 1.0), 1e-6)
    first = tl.maximum(tl.ceil((cell - 1 - begin) / gap - 0.5), 0.0)  # sample near the cell
    index = first + tl.arange(0, reach)[None, None, :]
    place = begin + (index + 0.5) * gap
    there = (index < samples) & (place >= -1) & (place <= size)
    distance = tl.abs(cell - tl.minimum(tl.maximum(place, 0.0), size - 1.0))
    return tl.sum(tl.where(there, tl.maximum(1 - distance, 0.0), 0.0), 2) / tl.maximum(samples, 1.0)


@triton.jit  # type: ignore[untyped-decorator]
def _cells_near(
    start: tl.tensor, step: tl.tensor, samples: tl.tensor, first: tl.tensor, last: tl.tensor,
    size: tl.tensor,
) -> tuple[tl.tensor, tl.tensor]:  # fmt: skip
    """First and last cell that the samples of some bins read along one axis."""
    half = 0.5 * step / tl.maximum(samples, 1.0) - 0.01
    low = tl.maximum(tl.floor(start + first * step + half), 0.0)
    high = tl.maximum(tl.floor(start + (last + 1) * step - half) + 1, 0.0)
    return tl.minimum(low, size - 1.0).to(tl.int32), tl.minimum(high, size - 1.0).to(tl.int32)


@triton.jit  # type: ignore[untyped-decorator]
def _is_near(
    box_ptr: tl.tensor, mask: tl.tensor, scale: tl.tensor, first: tl.tensor, number: tl.constexpr
) -> tl.tensor:
    """Whether RoIs may read any of these cells along one axis."""
    begin = tl.load(box_ptr, mask=mask, other=0.0) * scale
    end = tl.load(box_ptr + 2, mask=mask, other=0.0) * scale
    return (begin < first + number + 2) & (end > first - 2)


@triton.jit  # type: ignore[untyped-decorator]
def _bins_near(
    start: tl.tensor, step: tl.tensor, samples: tl.tensor, first: tl.tensor, number: tl.constexpr,
    side: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:  # fmt: skip
    """First and last bin of a RoI whose samples read any of these cells along one axis."""
    half = 0.5 * step / tl.maximum(samples, 1.0) - 0.01
    low = tl.floor((first - 1 - start + half) / tl.maximum(step, 1e-6))
    high = tl.floor((first + number - start - half) / tl.maximum(step, 1e-6))
    return tl.maximum(low, 0.0).to(tl.int32), tl.minimum(high, side - 1.0).to(tl.int32)


@triton.jit  # type: ignore[untyped-decorator]
def _add_product(total: tl.tensor, weight: tl.tensor, values: tl.tensor) -> tl.tensor:
    """``total + weight @ values``; of a shorter type each weight is two numbers."""
    if values.dtype == tl.float32:
        return tl.dot(weight, values, total, input_precision="tf32x3")
    coarse = weight.to(values.dtype)
    fine = (weight - coarse.to(tl.float32)).to(values.dtype)
    return tl.dot(fine, values, tl.dot(coarse, values, total))


@_jit  # type: ignore[untyped-decorator]
def _pool_kernel(  # noqa: PLR0913 - a kernel takes every size by itself
    feature_ptr: tl.tensor, out_ptr: tl.tensor, box_ptr: tl.tensor, image_ptr: tl.tensor,
    level_ptr: tl.tensor, level: tl.tensor, scale: tl.tensor, height: tl.tensor, width: tl.tensor,
    num_channels: tl.tensor, ratio: tl.constexpr, reach: tl.constexpr, side: tl.constexpr,
    bins: tl.constexpr, columns: tl.constexpr, channels: tl.constexpr,
) -> None:  # fmt: skip
    """One row of bins of one RoI."""
    roi, p = tl.program_id(0) // side, tl.program_id(0) % side
    if tl.load(level_ptr + roi) != level:
        return
    box = box_ptr + roi * 4
    x_start, x_step, x_samples = _axis(box, scale, side, ratio)
    y_start, y_step, y_samples = _axis(box + 1, scale, side, ratio)
    left, right = _cells_near(x_start, x_step, x_samples, 0, side - 1, width)
    top, bottom = _cells_near(y_start, y_step, y_samples, p, p, height)
    q, zero = tl.arange(0, bins), tl.arange(0, 1)[:, None]
    channel = tl.program_id(1) * channels + tl.arange(0, channels)
    is_channel = (channel < num_channels)[None, :]
    image = tl.load(image_ptr + roi).to(tl.int64)
    source = feature_ptr + image * height * width * num_channels + channel[None, :]
    total = tl.zeros([bins, channels], tl.float32)
    for begin in range(left, right + 1, columns):
        x = begin + tl.arange(0, columns)
        there = (x <= right)[:, None] & is_channel
        mean = tl.zeros([columns, channels], tl.float32)
        for y in range(top, bottom + 1):
            down = _weights(p + zero, y + zero, y_start, y_step, y_samples, height, reach)
            place = ((y * width + x) * num_channels)[:, None]
            mean += down * tl.load(source + place, mask=there, other=0.0).to(tl.float32)
        across = _weights(q[:, None], x[None, :], x_start, x_step, x_samples, width, reach)
        total = tl.dot(across, mean, total, input_precision="tf32x3")
    place = ((roi.to(tl.int64) * side + p) * side + q) * num_channels
    out = out_ptr + place[:, None] + channel[None, :]
    there = (q < side)[:, None] & is_channel
    tl.store(out, total.to(out_ptr.dtype.element_ty), mask=there)


@_jit  # type: ignore[untyped-decorator]
def _spread_kernel(  # noqa: PLR0913 - a kernel takes every size by itself
    grad_ptr: tl.tensor, out_ptr: tl.tensor, box_ptr: tl.tensor, first_ptr: tl.tensor,
    level_ptr: tl.tensor, level: tl.tensor, scale: tl.tensor, height: tl.tensor, width: tl.tensor,
    num_channels: tl.tensor, ratio: tl.constexpr, reach: tl.constexpr, side: tl.constexpr,
    bins: tl.constexpr, bin_rows: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
    channels: tl.constexpr, look: tl.constexpr,
) -> None:  # fmt: skip
    """Gradient of one tile of the map: from the RoIs of its image that are near."""
    tile, image, tiles = tl.program_id(0), tl.program_id(1), tl.cdiv(width, columns)
    top, left = tile // tiles * rows, tile % tiles * columns
    y, x = top + tl.arange(0, rows), left + tl.arange(0, columns)
    q, pq = tl.arange(0, bins), tl.arange(0, bin_rows * bins)
    channel = tl.program_id(2) * channels + tl.arange(0, channels)
    is_channel = (channel < num_channels)[None, :]
    total = tl.zeros([rows * columns, channels], tl.float32)
    end = tl.load(first_ptr + image + 1)
    for begin in range(tl.load(first_ptr + image), end, look):
        rois = begin + tl.arange(0, look)
        near = tl.load(level_ptr + rois, mask=rois < end, other=-1) == level
        near &= _is_near(box_ptr + rois * 4, rois < end, scale, left, columns)
        near &= _is_near(box_ptr + rois * 4 + 1, rois < end, scale, top, rows)
        rank = tl.cumsum(near.to(tl.int32), 0)
        for k in range(tl.max(rank, 0)):
            roi = tl.sum(tl.where(near & (rank == k + 1), rois, 0), 0)
            box = box_ptr + roi * 4
            start, step, samples = _axis(box, scale, side, ratio)
            across = _weights(q[None, :], x[:, None], start, step, samples, width, reach)
            start, step, samples = _axis(box + 1, scale, side, ratio)
            first, last = _bins_near(start, step, samples, top, rows, side)
            source = grad_ptr + roi.to(tl.int64) * side * side * num_channels + channel[None, :]
            for first_bin in range(first, last + 1, bin_rows):
                p = first_bin + tl.arange(0, bin_rows)
                down = _weights(p[None, :], y[:, None], start, step, samples, height, reach)
                both = down[:, None, :, None] * across[None, :, None, :]
                weight = tl.reshape(both, [rows * columns, bin_rows * bins])
                row, column = first_bin + pq // bins, pq % bins
                there = ((row < side) & (column < side))[:, None] & is_channel
                place = source + ((row * side + column) * num_channels)[:, None]
                total = _add_product(total, weight, tl.load(place, mask=there, other=0.0))
    cell = tl.arange(0, rows * columns)
    row, column = top + cell // columns, left + cell % columns
    there = ((row < height) & (column < width))[:, None] & is_channel
    out = out_ptr + image.to(tl.int64) * height * width * num_channels + channel[None, :]
    place = ((row * width + column) * num_channels)[:, None]
    tl.store(out + place, total.to(out_ptr.dtype.element_ty), mask=there)


class _Pooling(torch.autograd.Function):
    """Level after level: programs end at once if their RoI belongs to another one."""

    @staticmethod
    def forward(
        ctx: Any,
        rois: tuple[Tensor, Tensor, Tensor],
        strides: Sequence[int],
        side: int,
        ratio: int,
        *features: Tensor,
    ) -> Tensor:
        boxes, image, level = rois
        num_channels = features[0].shape[1]
        out = features[0].new_empty((len(boxes), side, side, num_channels))
        sizes = [(f.shape[2], f.shape[3]) for f in features]
        ctx.save_for_backward(*rois)
        power = triton.next_power_of_2
        ctx.samples = (ratio, power(ratio) if ratio else 4, side)
        ctx.scales, ctx.sizes, ctx.batch = [1 / s for s in strides], sizes, len(features[0])
        channels = min(max(power(num_channels), 16), 256)
        grid = (len(boxes) * side, triton.cdiv(num_channels, channels))
        for k, feature in enumerate(features if len(boxes) else ()):
            with torch.cuda.device(feature.get_device()):  # Triton takes the current one
                _pool_kernel[grid](
                    feature, out, boxes, image, level, k, ctx.scales[k], *sizes[k], num_channels,
                    *ctx.samples, max(power(side), 16), _COLUMNS, channels,
                )  # fmt: skip
        return out.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        boxes, image, level = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        num_channels, side = grad.shape[1:3]
        numbers = torch.arange(ctx.batch + 1, device=image.device)
        first = torch.searchsorted(image, numbers, out_int32=True)
        bins = triton.next_power_of_2(side)
        blocks = (bins, max(_TILE_BINS // bins, 1), *_TILE, _TILE_CHANNELS, _LOOK)
        gradients: list[Tensor | None] = [None] * len(ctx.sizes)
        for k, (height, width) in enumerate(ctx.sizes):
            if not ctx.needs_input_grad[4 + k]:
                continue
            out = grad.new_empty((ctx.batch, height, width, num_channels))
            tiles = triton.cdiv(height, _TILE[0]) * triton.cdiv(width, _TILE[1])
            _spread_kernel[(tiles, ctx.batch, triton.cdiv(num_channels, _TILE_CHANNELS))](
                grad, out, boxes, first, level, k, ctx.scales[k], height, width, num_channels,
                *ctx.samples, *blocks,
            )  # fmt: skip
            gradients[k] = out.permute(0, 3, 1, 2)
        return None, None, None, None, *gradients


def pool_levels(
    features: Sequence[Tensor],
    boxes: Tensor,
    image: Tensor,
    level: Tensor,
    strides: Sequence[int],
    side: int,
    sampling_ratio: int,
) -> Tensor:
    """RoI features ``[N, C, side, side]`` in the type of the features, channels last.

    Args:
        features: ``[B, C, h, w]`` of each level, of one type: float32 or shorter.
        boxes: ``[N, 4]`` xyxy network pixels, image by image.
        image: ``[N]`` int64 index of the image.
        level: ``[N]`` int64 index into ``features``.
        strides: Network pixels per cell of each level; powers of two.
        side: Side of the result.
        sampling_ratio: Samples per bin and axis; 0 adapts to the box.
    """
    last = [f.contiguous(memory_format=torch.channels_last) for f in features]
    rois = (boxes.float().contiguous(), image, level)
    pooled: Tensor = _Pooling.apply(rois, strides, side, sampling_ratio, *last)
    return pooled
