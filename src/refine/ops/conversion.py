"""Types and memory formats in one copy, on the way there and on the way back."""

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from refine.ops import triton_support

_CONTIGUOUS = torch.contiguous_format
_TOGETHER = 8


def format_of(feature: Tensor) -> torch.memory_format:
    """Memory format of ``[B, C, h, w]``; contiguous where it is neither or both."""
    is_last = feature.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last and not feature.is_contiguous() else _CONTIGUOUS


def is_poolable(feature: Tensor) -> bool:
    """Whether our RoIAlign on GPUs pools this feature as it is, channels last in its own type."""
    is_ours = feature.is_cuda and feature.dtype != torch.float64
    return is_ours and triton_support.has_matrix_units()


def make_poolable(feature: Tensor) -> Tensor:
    """A feature ``[B, C, h, w]`` as RoIAlign wants it: float32, channels first, on the CPU last.

    Only our kernel for GPUs takes all as they are. Callers that pool a feature several times
    convert it once. The gradient has the type and memory format of the feature, so that it is added
    to others without a copy.
    """
    if is_poolable(feature):
        return feature
    return _convert(feature, torch.float32, torch.channels_last if feature.is_cpu else _CONTIGUOUS)


def make_convolvable(pooled: Tensor) -> Tensor:
    """RoI features ``[N, C, m, m]`` as convolutions want them under autocast, else as they are.

    Otherwise every convolution that reads them would change the type first, then the memory format,
    and the latter once more for the gradient of its weights.
    """
    if not _is_autocast(pooled):
        return pooled
    return _convert(pooled, torch.get_autocast_dtype(pooled.device.type), torch.channels_last)


def _is_autocast(tensor: Tensor) -> bool:
    device = tensor.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _convert(tensor: Tensor, dtype: torch.dtype, memory_format: torch.memory_format) -> Tensor:
    if tensor.dtype == dtype and tensor.is_contiguous(memory_format=memory_format):
        return tensor
    if not (tensor.requires_grad and torch.is_grad_enabled()):
        return tensor.to(dtype, memory_format=memory_format)
    converted: Tensor = _Conversion.apply(tensor, dtype, memory_format)
    return converted


class _Conversion(torch.autograd.Function):
    """``Tensor.to``, whose gradient would keep the other memory format."""

    @staticmethod
    def forward(
        ctx: Any, tensor: Tensor, dtype: torch.dtype, memory_format: torch.memory_format
    ) -> Tensor:
        ctx.dtype, ctx.format = tensor.dtype, format_of(tensor)
        return tensor.to(dtype, memory_format=memory_format)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.to(ctx.dtype, memory_format=ctx.format), None, None


def align_channels(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """``[B, C, h, w]`` and the weight ``[D, C, k, k]`` of a convolution, with zeros up to eights.

    GPUs' matrix units take half types eight channels at a time; with 389 a convolution would take
    three times as long as with 392. Elsewhere both are returned as they are.
    """
    missing = -x.shape[1] % _TOGETHER if x.is_cuda else 0
    if not missing:
        return x, weight
    return F.pad(x, (0, 0, 0, 0, 0, missing)), F.pad(weight, (0, 0, 0, 0, 0, missing))


def upsample_twice(x: Tensor) -> Tensor:
    """``[B, C, h, w]`` bilinearly to ``[B, C, 2 h, 2 w]``, in its own type also under autocast.

    Autocast would make it float32, and with it all that it is added to.
    """
    is_on = _is_autocast(x)
    with torch.autocast(x.device.type, enabled=False) if is_on else nullcontext():
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def place_rows(rows: Tensor, order: Tensor) -> Tensor:
    """Row ``k`` of ``[N, ...]`` at place ``order[k]`` (``[N]`` int64, a permutation).

    The gradient is the rows in their old order: unlike that of an index, nothing is summed.
    """
    if not (rows.requires_grad and torch.is_grad_enabled()):
        return _take(rows, order.argsort())
    placed: Tensor = _Permutation.apply(rows, order)
    return placed


class _Permutation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return _take(rows, order.argsort())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        return _take(grad, order), None


def _take(rows: Tensor, index: Tensor) -> Tensor:
    """``rows[index]``, as whole rows of memory."""
    if rows.ndim == 4 and format_of(rows) == torch.channels_last:
        return rows.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)
    return rows.index_select(0, index)
