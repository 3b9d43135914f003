"""Triton kernels of :mod:`refine.ops.channels_last_norm`; GPUs alone import this."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_CELLS = 4096  # numbers that a program holds of each tensor
_STEPS = 16  # blocks that a program of sums goes through


@triton.jit  # type: ignore[untyped-decorator]
def _sum_kernel(
    x_ptr: tl.tensor,
    y_ptr: tl.tensor,
    out_ptr: tl.tensor,
    num_rows: tl.tensor,
    num_channels: tl.tensor,
    rows: tl.constexpr,
    channels: tl.constexpr,
    steps: tl.constexpr,
) -> None:
    image, part = tl.program_id(0), tl.program_id(1)
    begin = image.to(tl.int64) * num_rows * num_channels
    channel = tl.arange(0, channels)
    sums = tl.zeros([rows, channels], tl.float32)
    products = tl.zeros([rows, channels], tl.float32)
    for step in range(steps):
        row = (part * steps + step) * rows + tl.arange(0, rows)
        place = row[:, None] * num_channels + channel[None, :]
        there = (row < num_rows)[:, None] & (channel < num_channels)[None, :]
        x = tl.load(x_ptr + begin + place, mask=there, other=0.0).to(tl.float32)
        y = tl.load(y_ptr + begin + place, mask=there, other=0.0).to(tl.float32)
        sums += x
        products += x * y
    out = out_ptr + (image * tl.num_programs(1) + part) * 2 * num_channels + channel
    tl.store(out, tl.sum(sums, 0), mask=channel < num_channels)
    tl.store(out + num_channels, tl.sum(products, 0), mask=channel < num_channels)


@triton.jit  # type: ignore[untyped-decorator]
def _mix_kernel(
    x_ptr: tl.tensor,
    y_ptr: tl.tensor,
    factor_ptr: tl.tensor,
    out_ptr: tl.tensor,
    num_rows: tl.tensor,
    num_channels: tl.tensor,
    rows: tl.constexpr,
    channels: tl.constexpr,
) -> None:
    image, part = tl.program_id(0), tl.program_id(1)
    begin = image.to(tl.int64) * num_rows * num_channels
    channel = tl.arange(0, channels)
    row = part * rows + tl.arange(0, rows)
    place = row[:, None] * num_channels + channel[None, :]
    is_channel = channel < num_channels
    there = (row < num_rows)[:, None] & is_channel[None, :]
    factor = factor_ptr + image * 3 * num_channels + channel
    a = tl.load(factor, mask=is_channel, other=0.0)
    b = tl.load(factor + num_channels, mask=is_channel, other=0.0)
    c = tl.load(factor + 2 * num_channels, mask=is_channel, other=0.0)
    out = tl.load(x_ptr + begin + place, mask=there, other=0.0).to(tl.float32) * a[None, :]
    out += tl.load(y_ptr + begin + place, mask=there, other=0.0).to(tl.float32) * b[None, :]
    out += c[None, :]
    tl.store(out_ptr + begin + place, out.to(out_ptr.dtype.element_ty), mask=there)


def sum_products(x: Tensor, y: Tensor) -> Tensor:
    """``[B, 2, C]`` float32: sums of x and of x y over the pixels; both ``[B, C, H, W]``.

    Both tensors are channels last.
    """
    batch, channels, height, width = x.shape
    block = triton.next_power_of_2(channels)
    rows = max(_CELLS // block, 1)
    parts = triton.cdiv(height * width, rows * _STEPS)
    out = torch.empty((batch, parts, 2, channels), device=x.device, dtype=torch.float32)
    shape = (height * width, channels)
    with torch.cuda.device(x.get_device()):  # Triton takes the current one
        _sum_kernel[(batch, parts)](x, y, out, *shape, rows=rows, channels=block, steps=_STEPS)
    return out.sum(dim=1)


def mix(x: Tensor, y: Tensor, factors: Tensor) -> Tensor:
    """``a x + b y + c`` in the type of x; x and y ``[B, C, H, W]``, channels last.

    ``factors`` are a, b and c of each image and channel, ``[B, 3, C]`` float32.
    """
    batch, channels, height, width = x.shape
    block = triton.next_power_of_2(channels)
    rows = max(_CELLS // block, 1)
    out = torch.empty_like(x, memory_format=torch.channels_last)
    grid = (batch, triton.cdiv(height * width, rows))
    shape = (height * width, channels)
    with torch.cuda.device(x.get_device()):
        _mix_kernel[grid](x, y, factors, out, *shape, rows=rows, channels=block)
    return out
