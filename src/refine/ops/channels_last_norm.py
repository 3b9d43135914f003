"""Group normalisation of tensors that are channels last in memory.

PyTorch's on a GPU (unlike that on a CPU) brings them to channels first and leaves them there, so
that the next convolution brings them back, and the gradients of both likewise: five copies of each
such layer. Here the kernels read and write the tensors as they are. Sums are in float32.
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from refine.ops.triton_support import is_available

_LAST = torch.channels_last


def fits(x: Tensor) -> bool:
    """Whether :func:`normalize_groups` is the better form for this input."""
    is_last = x.ndim == 4 and x.is_contiguous(memory_format=_LAST) and not x.is_contiguous()
    is_ours = x.is_cuda and is_last and x.numel() > 0 and not torch.compiler.is_compiling()
    return is_ours and is_available()


def normalize_groups(
    x: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """``torch.nn.functional.group_norm`` of ``[B, C, H, W]``, on a GPU.

    The result has the type of x; the weight and bias ``[C]`` are used in float32.
    """
    result: Tensor = _GroupNorm.apply(x, num_groups, weight, bias, eps)
    return result


def _kernels() -> ModuleType:
    from refine.ops import norm_kernels  # compiled for a GPU at the first call

    return norm_kernels


class _GroupNorm(torch.autograd.Function):
    """Mean and deviation of each group, then one factor and one shift per image and channel."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float
    ) -> Tensor:
        sums = _kernels().sum_products(x, x).unflatten(2, (num_groups, -1)).sum(dim=3)
        count = x[0].numel() // num_groups
        mean, square = (sums / count).unbind(dim=1)  # [B, G]
        deviation = (square - mean.square()).clamp(min=0)
        scale = (deviation + eps).rsqrt()
        repeats = x.shape[1] // num_groups
        each_mean, each_scale = (v.repeat_interleave(repeats, dim=1) for v in (mean, scale))
        factor = each_scale * weight.float()
        shift = bias.float() - each_mean * factor
        ctx.save_for_backward(x, weight, each_mean, each_scale)
        ctx.num_groups = num_groups
        none = torch.zeros_like(factor)
        result: Tensor = _kernels().mix(x, x, torch.stack([factor, none, shift], dim=1))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        grad = grad.contiguous(memory_format=_LAST)
        sums, products = _kernels().sum_products(grad, x).unbind(dim=1)  # [B, C]
        count = x[0].numel() // ctx.num_groups
        wide = weight.float()
        groups = (torch.stack([sums, products]) * wide).unflatten(2, (ctx.num_groups, -1))
        repeats = x.shape[1] // ctx.num_groups
        of_sums, of_products = groups.sum(dim=3).repeat_interleave(repeats, dim=2)
        slope = (of_sums * mean - of_products) * scale**3 / count
        shift = -slope * mean - of_sums * scale / count
        factors = torch.stack([scale * wide, slope, shift], dim=1)
        grad_x = _kernels().mix(grad, x, factors)
        grad_weight = ((products - sums * mean) * scale).sum(dim=0)
        return grad_x, None, grad_weight.to(weight.dtype), sums.sum(dim=0).to(weight.dtype), None
