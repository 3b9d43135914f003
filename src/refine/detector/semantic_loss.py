"""Loss of a semantic head."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from refine.types import IGNORE_INDEX

_MANY_CATEGORIES = 32


def semantic_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy at the input's size (detectron2: logits upsampled x4, in float32).

    The upsampled logits are the largest tensor of a training step (133 categories at 800x1333:
    567 MB an image), and IBPP has T + 1 such losses. So the gradient is taken on the spot, image
    by image, and only that of the stride-4 logits waits for the backward pass.

    Args:
        logits: ``[B, C, h, w]`` at stride 4.
        targets: ``[B, 4 h, 4 w]`` uint8 categories, 255 is ignored.

    Returns:
        A scalar, 0 if every pixel is ignored.
    """
    num_pixels = (targets != IGNORE_INDEX).sum().clamp(min=1)
    total: Tensor = _SummedCrossEntropy.apply(logits, targets)
    return total / num_pixels


class _SummedCrossEntropy(torch.autograd.Function):
    """Sum over all pixels that count; keeps the gradient of the small logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        if not ctx.needs_input_grad[0]:
            return torch.stack(
                [_cross_entropy(i[None], t[None]) for i, t in zip(logits, targets, strict=True)]
            ).sum()
        values: list[Tensor] = []
        gradients: list[Tensor] = []
        for image, target in zip(logits, targets, strict=True):
            with torch.enable_grad():
                leaf = image[None].detach().requires_grad_()
                value = _cross_entropy(leaf, target[None])
            gradients.append(*torch.autograd.grad(value, leaf))
            values.append(value.detach())
        ctx.save_for_backward(torch.cat(gradients))
        return torch.stack(values).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad.to(gradient.dtype), None


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    # softmax over neighbours in memory takes half the time with 133 categories, twice with 11
    many = logits.shape[1] >= _MANY_CATEGORIES
    memory_format = torch.channels_last if many else torch.contiguous_format
    logits = logits.float().contiguous(memory_format=memory_format)
    full = F.interpolate(logits, size=targets.shape[-2:], mode="bilinear", align_corners=False)
    labels = targets.long()
    if many:
        full, labels = full.permute(0, 2, 3, 1).flatten(0, 2), labels.flatten()  # a view
    return F.cross_entropy(full, labels, ignore_index=IGNORE_INDEX, reduction="sum")
