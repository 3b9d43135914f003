"""Deformable 3x3 convolution (Dai et al. 2017; modulated: Zhu et al. 2019, "v2").

It takes the place of a plain convolution and starts as exactly that convolution: the offsets are
predicted by a convolution whose weights and bias are zero.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import DeformConv2d, deform_conv2d

from refine.detector.norms import FrozenNorm

OFFSETS = "offsets"
"""Name of the submodule that predicts the offsets."""


class DeformableConv(DeformConv2d):  # type: ignore[misc]
    """A convolution whose taps move.

    ``weight`` and ``bias`` are the parameters of the convolution that it replaces, under the same
    names, so a state dict of the plain network loads; only the keys of :data:`OFFSETS` are new.

    Args:
        conv: Plain convolution, padded by a number of pixels; its parameters are taken over.
        modulated: Whether each tap also gets a factor in (0, 2), 1 at the start. (The paper's
            factor is in (0, 1) and starts at 1/2, which would halve the output of pretrained
            weights.)
        groups: Number of groups of input channels with offsets of their own.
    """

    def __init__(self, conv: nn.Conv2d, *, modulated: bool = False, groups: int = 1) -> None:
        names = ("in_channels", "kernel_size", "stride", "padding", "dilation")
        shape: dict[str, Any] = {name: getattr(conv, name) for name in names}
        has_bias = conv.bias is not None
        super().__init__(out_channels=conv.out_channels, groups=conv.groups, bias=has_bias, **shape)
        self.weight, self.bias = conv.weight, conv.bias
        self.modulated = modulated
        self.num_shifts = 2 * groups * conv.weight[0, 0].numel()
        num_offsets = self.num_shifts * 3 // 2 if modulated else self.num_shifts
        self.offsets = nn.Conv2d(out_channels=num_offsets, **shape)
        for parameter in self.offsets.parameters():
            nn.init.zeros_(parameter)
        self._norms: list[FrozenNorm] = []  # in a list: not a submodule

    def absorb(self, norm: FrozenNorm) -> None:
        """Do the work of the frozen normalisation that follows."""
        norm.is_folded = True
        self._norms = [norm]

    def forward(self, x: Tensor) -> Tensor:
        """``[B, in_channels, H, W]`` to ``[B, out_channels, H', W']``, as the plain convolution.

        The result has the type of ``x``; half types are computed in float32, because there is no
        bfloat16 kernel.
        """
        wide = torch.promote_types(x.dtype, torch.float32)
        shifts, factors = self.offsets(x).to(wide), None
        if self.modulated:
            shifts, logits = shifts.tensor_split([self.num_shifts], dim=1)
            factors = 2 * logits.sigmoid()
        folded = self._norms[0].fold(self.weight) if self._norms else (self.weight, self.bias)
        result: Tensor = deform_conv2d(
            x.to(wide), shifts, *folded, self.stride, self.padding, self.dilation, factors
        )
        return result.to(x.dtype)
