"""Normalisations that keep half types as they are, and one that a convolution does."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from refine.ops.channels_last_norm import fits, normalize_groups
from refine.ops.convolution import convolve


class GroupNorm(nn.GroupNorm):
    """Group normalisation whose result has the type of its input, also under autocast.

    Autocast would compute it in float32 and hand that on, twice the memory of every layer. Sums are
    in float32 all the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same."""
        if fits(x):
            return normalize_groups(x, self.num_groups, self.weight, self.bias, self.eps)
        if x.dtype == self.weight.dtype:
            return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            return F.group_norm(x, self.num_groups, weight, bias, self.eps)


class FrozenNorm(FrozenBatchNorm2d):  # type: ignore[misc]
    """Batch normalisation that never changes, as a factor and a bias of the convolution before it.

    The same function, without two passes over the largest tensors of the network, and without
    float32 under autocast. Parameters stay those of the convolution, and statistics those of the
    normalisation, so that state dicts are the same; gradients reach the parameters.

    Attributes:
        is_folded: Whether the convolution before it calls :meth:`fold`.
    """

    is_folded = False

    def fold(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Weight ``[C, ...]`` and bias ``[C]`` of a convolution that normalises its result."""
        factor = self.weight * (self.running_var + self.eps).rsqrt()
        shift: Tensor = self.bias - self.running_mean * factor
        return weight * factor.view(-1, *[1] * (weight.ndim - 1)), shift

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same."""
        if self.is_folded:
            return x
        result: Tensor = super().forward(x)
        return result


class FoldedConv(nn.Conv2d):
    """A convolution without a bias, and the frozen normalisation after it."""

    def __init__(self, conv: nn.Conv2d, norm: FrozenNorm) -> None:
        names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "groups")
        shape: dict[str, Any] = {name: getattr(conv, name) for name in names}
        super().__init__(bias=False, device="meta", **shape)
        self.weight = conv.weight
        norm.is_folded = True
        self._norms = [norm]  # in a list: not a submodule

    def forward(self, x: Tensor) -> Tensor:
        """``[B, in_channels, H, W]`` to ``[B, out_channels, H', W']``, normalised."""
        folded = self._norms[0].fold(self.weight)
        if self.stride == (1, 1) and self.groups == 1:
            return convolve(x, *folded)
        result: Tensor = self._conv_forward(x, *folded)
        return result
