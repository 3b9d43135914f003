"""Convolutions that keep the size, in inference on a CPU with a quarter of the multiplications."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

_TILE, _INPUT = 4, 6
"""Sides of a tile of results and of what it reads."""
_TILES_AT_ONCE = 80
"""With 256 channels they stay in the cache of a core."""
_FEWEST_CHANNELS = 128
_LEAST_ALONE, _LEAST_OF_EACH = 75 * 2**16, 300 * 2**16
"""Tiles times input and output channels from which on it pays: of one thread, of each of more."""

_T = TypeVar("_T")


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    more: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """``F.conv2d`` with stride 1 and zeros around: ``[B, C, h, w]`` to ``[B, D, h, w]``.

    Large 3x3 convolutions in float32 without gradients take Winograd's form on tiles of 4x4 results
    (Lavin and Gray 2016), in half to nine tenths of the time. They differ from exact ones by up to
    3e-6 of the largest result, the direct form by 2e-6.

    Args:
        x: ``[B, C, h, w]``.
        weight: ``[D, C, k, k]``, k odd.
        bias: ``[D]``.
        more: Another ``[B, E, h, w]`` and its weight ``[D, E, k, k]``; the results are added.
    """
    if _pays(x, weight):
        pairs = [(x, weight)] if more is None else [(x, weight), more]
        inputs, weights = zip(*pairs, strict=True)
        return _convolve_tiles(inputs, torch.cat(weights, dim=1), bias)
    padding = weight.shape[-1] // 2
    result = F.conv2d(x, weight, bias, padding=padding)
    if more is not None:
        result += F.conv2d(*more, padding=padding)
    return result


def _pays(x: Tensor, weight: Tensor) -> bool:
    is_plain = x.is_cpu and x.dtype == weight.dtype == torch.float32
    if not is_plain or weight.shape[2:] != (3, 3) or torch.is_grad_enabled():
        return False
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return False  # not measured: the products of other libraries
    num_tiles = len(x) * -(-x.shape[2] // _TILE) * -(-x.shape[3] // _TILE)
    threads = torch.get_num_threads()
    least = _LEAST_ALONE if threads == 1 else _LEAST_OF_EACH * threads
    channels = weight.shape[:2]
    return min(channels) >= _FEWEST_CHANNELS and num_tiles * channels.numel() >= least


def _convolve_tiles(inputs: Sequence[Tensor], weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of the inputs' joined channels."""
    columns = weight.permute(2, 3, 1, 0).reshape(9, -1)
    filters = (_transforms()[1] @ columns).view(-1, weight.shape[1], weight.shape[0])
    inputs = [x.permute(0, 2, 3, 1) for x in inputs]
    count, height, width = inputs[0].shape[:3]
    rows, across = -(-height // _TILE), -(-width // _TILE)
    result = weight.new_empty(count, rows, _TILE, across, _TILE, len(weight))
    num_rows = min(max(_TILES_AT_ONCE // across, 1), rows)
    num_images = max(_TILES_AT_ONCE // (rows * across), 1)
    work = partial(_convolve_part, inputs, filters, bias, result, (num_images, num_rows))
    _share(work, ((i, r) for i in range(0, count, num_images) for r in range(0, rows, num_rows)))
    whole = result.view(count, rows * _TILE, across * _TILE, -1)[:, :height, :width]
    return whole.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _share(work: Callable[[_T], None], parts: Iterable[_T]) -> None:
    """Do each part with one thread, several at a time.

    Torch's threads share every operation and wait for each other after each, which took longer than
    the direct form as soon as another process needed a core.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        for part in parts:
            work(part)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(work, parts):
                pass
    finally:
        torch.set_num_threads(threads)  # for threads that start later


@torch.inference_mode()  # a thread has its own mode
def _convolve_part(
    inputs: Sequence[Tensor],
    filters: Tensor,
    bias: Tensor | None,
    result: Tensor,
    size: tuple[int, int],
    start: tuple[int, int],
) -> None:
    """Write some rows of tiles of some images into the result."""
    of_input, _, of_result = _transforms()
    images, rows = (slice(first, first + num) for first, num in zip(start, size, strict=True))
    part = result[images, rows]
    num_rows, across = part.shape[1], part.shape[3]
    tiles = _cut_tiles([x[images] for x in inputs], rows.start, num_rows, across)
    products = torch.bmm((of_input @ tiles.flatten(1)).view_as(tiles), filters)
    sums = (of_result @ products.flatten(1)).view(_TILE, _TILE, -1, num_rows, across, part.shape[5])
    sums = sums.permute(2, 3, 0, 4, 1, 5)
    if bias is None:
        part.copy_(sums)
    else:
        torch.add(sums, bias, out=part)


def _cut_tiles(inputs: Sequence[Tensor], row: int, num_rows: int, across: int) -> Tensor:
    """``[36, tiles, C]``: each pixel of what some rows of tiles read of ``[B, h, w, ...]``."""
    count, _, width = inputs[0].shape[:3]
    above = _TILE * row - 1
    found = [x[:, max(above, 0) : above + _TILE * num_rows + 2] for x in inputs]
    channels = sum(x.shape[3] for x in inputs)
    size = (_TILE * num_rows + 2, _TILE * across + 2)
    padded = found[0].new_empty(count, *size, channels)
    top = max(-above, 0)
    bottom = top + found[0].shape[1]
    for border in (
        padded[:, :top],
        padded[:, bottom:],
        padded[:, :, :1],
        padded[:, :, width + 1 :],
    ):
        border.zero_()
    inner = padded[:, top:bottom, 1 : width + 1]
    torch.cat(found, dim=3, out=inner)
    image, line, pixel, _ = padded.stride()
    shape = (_INPUT, _INPUT, count, num_rows, across, channels)
    tiles = padded.as_strided(shape, (line, pixel, image, _TILE * line, _TILE * pixel, 1))
    return tiles.reshape(_INPUT**2, -1, channels)


@cache
def _transforms() -> tuple[Tensor, Tensor, Tensor]:
    """Matrices of a tile's 36 inputs, of the 9 weights, and of the 16 results.

    Toom and Cook's products of polynomials, evaluated at these points and infinity. Whole numbers
    (0, 1, -1, 2, -2) would have four times the rounding error.
    """
    points = torch.tensor([0, 0.7, -0.7, 1.5, -1.5], dtype=torch.float64)
    powers = points[:, None] ** torch.arange(_INPUT)
    others = [torch.cat([points[:k], points[k + 1 :]]) for k in range(5)]
    of_input = torch.zeros(_INPUT, _INPUT, dtype=torch.float64)
    of_input[:5, :5] = torch.stack([_expand(roots) for roots in others])
    of_input[5] = _expand(points)
    gaps = torch.stack([(points[k] - others[k]).prod() for k in range(5)])
    infinity = torch.eye(_INPUT, dtype=torch.float64)
    of_weight = torch.cat([powers[:, :3] / gaps[:, None], infinity[:1, :3].flip(1)])
    of_result = torch.cat([powers[:, :4], infinity[:1, :4].flip(1)]).T
    parts = (of_input, of_weight, of_result)
    first, second, third = (torch.kron(part, part).float() for part in parts)
    return first, second, third


def _expand(roots: Tensor) -> Tensor:
    """Coefficients of the product of ``x - root``, the constant one first."""
    coefficients = torch.ones(1, dtype=roots.dtype)
    for root in roots:
        padded = F.pad(coefficients, (1, 1))
        coefficients = padded[:-1] - root * padded[1:]
    return coefficients
