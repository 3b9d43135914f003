"""Panoptic-FPN's semantic head (Kirillov et al. 2019, section 3; figure 3)."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from refine.modules.blocks import conv_norm_act, init_he


class SemanticTrunk(nn.Module):
    """P2 to P5 to one feature at stride 4.

    Every level passes ``max(1, log2(stride / 4))`` blocks of 3x3 convolution, GN and ReLU, each
    followed by a x2 bilinear upsampling until stride 4; the four results are summed.

    Args:
        in_channels: Width of the pyramid.
        channels: Width of the result, a multiple of 32.
        strides: Of the levels that are given, finest (4) first.
    """

    def __init__(self, in_channels: int, channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_level(in_channels, channels, s) for s in strides)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Fuse the levels.

        Args:
            features: One ``[B, C, h, w]`` a level, finest first; each level half the last.

        Returns:
            ``[B, channels, h, w]`` at the finest level's size.
        """
        fused = self.levels[0](features[0])
        for level, feature in zip(self.levels[1:], features[1:], strict=True):
            fused = fused + level(feature)
        return fused  # type: ignore[no-any-return]


class SemanticPredictor(nn.Module):
    """1x1 convolution from the stride-4 feature to logits (``H_sem``, eq. 1 of the paper).

    Args:
        channels: Width of the feature.
        num_categories: Things and stuff.
    """

    def __init__(self, channels: int, num_categories: int) -> None:
        super().__init__()
        self.predictor = nn.Conv2d(channels, num_categories, 1)
        init_he(self.predictor)

    def forward(self, feature: Tensor) -> Tensor:
        """``[B, channels, h, w]`` to logits ``[B, num_categories, h, w]``."""
        return self.predictor(feature)  # type: ignore[no-any-return]


class _Upsample(nn.Module):
    """x2 bilinear, half-pixel centres."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _level(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    num_upsamplings = int(math.log2(stride // 4))
    layers: list[nn.Module] = []
    for k in range(max(1, num_upsamplings)):
        layers.append(conv_norm_act(in_channels if k == 0 else channels, channels))
        if num_upsamplings:
            layers.append(_Upsample())
    return nn.Sequential(*layers)
