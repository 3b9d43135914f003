"""Cross-entropy of a coarse map of logits at the size of the labels, and its gradient at once.

Between the centres of four neighbours lie 16 pixels, each a fixed mixture of the four. So a few
cells at a time are mixed by a small matrix product, and the gradient goes back by its transpose:
the upsampled logits (133 categories at 800x1333: 567 MB an image) never exist as a whole, and on a
CPU they stay in its cache. With few categories interpolation as usual is faster on a CPU, and on a
GPU a kernel does it all without leaving its registers.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from refine.ops.triton_support import is_available
from refine.types import IGNORE_INDEX, STRIDE

_MANY_CATEGORIES = 32
_CPU_CELLS, _GPU_CELLS = 512, 60_000  # those in a cache; matrix products in one call


def sum_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum over all pixels that count, in float32 also under autocast.

    The logits are upsampled bilinearly (``align_corners=False``). For the backward pass the
    gradient of the coarse logits is kept.

    Args:
        logits: ``[B, C, h, w]``.
        targets: ``[B, 4 h, 4 w]`` uint8 categories, 255 is ignored.
    """
    total: Tensor = _SummedCrossEntropy.apply(logits, targets)
    return total


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        form = _choose_form(logits)
        needs_gradient = ctx.needs_input_grad[0]
        with torch.autocast(logits.device.type, enabled=False):
            total, gradient = form(logits.detach(), targets, needs_gradient=needs_gradient)
        if needs_gradient:
            ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad.to(gradient.dtype), None


def _choose_form(logits: Tensor) -> Callable[..., tuple[Tensor, Tensor | None]]:
    if logits.is_cpu:
        return sum_by_image if logits.shape[1] < _MANY_CATEGORIES else sum_by_cells
    fits = logits.is_cuda and logits.numel() > 0 and is_available()
    return sum_by_kernel if fits else sum_by_cells


def sum_by_image(
    logits: Tensor, targets: Tensor, *, needs_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """The plain form: the sum, and its gradient in the type of the logits if it is needed."""
    values, gradients = [], []
    for image, target in zip(logits, targets, strict=True):
        with torch.set_grad_enabled(needs_gradient):
            leaf = image[None].detach().requires_grad_(needs_gradient)
            size = target.shape
            full = F.interpolate(leaf.float().contiguous(), size, mode="bilinear")
            value = F.cross_entropy(
                full, target[None].long(), ignore_index=IGNORE_INDEX, reduction="sum"
            )
        if needs_gradient:
            gradients.extend(torch.autograd.grad(value, leaf))
        values.append(value.detach())
    return torch.stack(values).sum(), torch.cat(gradients) if needs_gradient else None


def sum_by_kernel(
    logits: Tensor, targets: Tensor, *, needs_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """The form for GPUs with Triton; as :func:`sum_by_image`.

    A target that is no category makes the sum NaN.
    """
    from refine.ops.loss_kernels import add_cells  # compiled for a GPU at the first call

    batch, categories, height, width = logits.shape
    last = logits.permute(0, 2, 3, 1).contiguous()
    shape = (batch, height + 2, width + 2, categories)
    gradient = logits.new_zeros(shape, dtype=torch.float32) if needs_gradient else None
    total = add_cells(last, targets.contiguous(), gradient).sum()
    return total, None if gradient is None else _cut(gradient, logits.dtype)


def sum_by_cells(
    logits: Tensor, targets: Tensor, *, needs_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """The form for many categories on a CPU, and for other devices; as :func:`sum_by_image`."""
    batch, categories, height, width = logits.shape
    # beyond the border its logits go on, and no pixel counts
    coarse = F.pad(logits.float(), (1, 1, 1, 1), mode="replicate").permute(0, 2, 3, 1).contiguous()
    half = STRIDE // 2
    labels = F.pad(targets, (half, half, half, half), value=IGNORE_INDEX)
    labels = labels.view(batch, height + 1, STRIDE, width + 1, STRIDE).transpose(2, 3)
    mixture = _mixture(logits.device)
    gradient = torch.zeros_like(coarse) if needs_gradient else None
    step = max((_CPU_CELLS if logits.is_cpu else _GPU_CELLS) // (batch * (width + 1)), 1)
    sums = []
    for top in range(0, height + 1, step):
        rows = coarse[:, top : top + step + 1]
        label = labels[:, top : top + step].reshape(-1, STRIDE**2, 1).long()
        counts = label != IGNORE_INDEX
        label = torch.where(counts, label, 0)
        corners = torch.stack([*_corners(rows)], dim=3).view(-1, 4, categories)
        many = mixture.expand(len(corners), -1, -1)
        scores = torch.log_softmax(torch.bmm(many, corners), dim=2)
        sums.append((scores.gather(2, label) * counts).sum())
        if gradient is not None:
            ones = torch.ones_like(label, dtype=scores.dtype)
            excess = scores.exp_().scatter_add_(2, label, -ones)
            back = torch.bmm((many * counts).transpose(1, 2), excess)
            shares = back.view(batch, -1, width + 1, 4, categories).unbind(dim=3)
            places = _corners(gradient[:, top : top + step + 1])
            for place, share in zip(places, shares, strict=True):
                place += share
    total = -torch.stack(sums).sum()
    return total, None if gradient is None else _cut(gradient, logits.dtype)


def _cut(gradient: Tensor, dtype: torch.dtype) -> Tensor:
    """``[B, C, h, w]``, channels last, of ``[B, h + 2, w + 2, C]``: what lies beyond is added."""
    for axis in (1, 2):
        gradient.select(axis, 1).add_(gradient.select(axis, 0))
        gradient.select(axis, -2).add_(gradient.select(axis, -1))
    inside = gradient[:, 1:-1, 1:-1].permute(0, 3, 1, 2)
    return inside.to(dtype).contiguous(memory_format=torch.channels_last)


def _corners(rows: Tensor) -> Iterator[Tensor]:
    """The four corners of all cells ``[B, k, w + 1, C]`` between rows ``[B, k + 1, w + 2, C]``."""
    ends = (slice(None, -1), slice(1, None))
    for down, across in itertools.product(ends, ends):
        yield rows[:, down, across]


def _mixture(device: torch.device) -> Tensor:
    """``[16, 4]`` shares of the corners in each pixel of a cell."""
    after = (torch.arange(STRIDE, device=device, dtype=torch.float32) + 0.5) / STRIDE
    shares = torch.stack([1 - after, after], dim=1)
    return torch.einsum("pi,qj->pqij", shares, shares).reshape(STRIDE**2, 4)
