"""Panoptic-FPN's semantic head (Kirillov et al. 2019, section 3; figure 3)."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from refine.detector.blocks import Upsample, conv_norm_act, init_he, named_draws, widen
from refine.detector.deformable import DeformableConv
from refine.ops.conversion import align_channels, format_of
from refine.ops.convolution import convolve

NEVER = -1e4
"""Logit of a category that is never predicted: a probability of 0, and float16 can hold it."""


class SemanticTrunk(nn.Module):
    """P2 to P5 to one feature at stride 4.

    Every level passes ``max(1, log2(stride / 4))`` blocks of 3x3 convolution, GN and ReLU, each
    followed by a x2 bilinear upsampling until stride 4; the four results are summed.

    Args:
        in_channels: Channels of the pyramid.
        channels: Channels of the result, a multiple of 32.
        strides: Strides of the levels, finest (4) first.
        embedding: Whether the trunk ends in a 1x1 convolution and ReLU.
        dcn: Whether its 3x3 convolutions are deformable.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        strides: Sequence[int],
        *,
        embedding: bool = False,
        dcn: bool = False,
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_level(in_channels, channels, s, dcn=dcn) for s in strides)
        self.embedding = (
            conv_norm_act(channels, channels, kernel=1, norm="none") if embedding else nn.Identity()
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Levels ``[B, C, h, w]``, finest first, each half the last, to ``[B, channels, h, w]``."""
        fused = self.levels[0](features[0])
        for level, feature in zip(self.levels[1:], features[1:], strict=True):
            fused = fused + level(feature)
        return self.embedding(fused)  # type: ignore[no-any-return]


class SemanticPredictor(nn.Module):
    """1x1 convolution from the stride-4 feature to logits (``H_sem``, eq. 1 of the paper).

    The first ``num_merged`` categories, all things or none, share one logit (detectron2's head).
    Callers see ``num_categories`` logits all the same: the shared one as category 0, and
    :data:`NEVER` for the other things.
    """

    def __init__(self, channels: int, num_categories: int, *, num_merged: int = 0) -> None:
        super().__init__()
        self.num_hidden = max(num_merged - 1, 0)
        self.predictor = nn.Conv2d(channels, num_categories - self.num_hidden, 1)
        init_he(self.predictor)

    def forward(self, feature: Tensor) -> Tensor:
        """``[B, channels, h, w]`` to logits ``[B, num_categories, h, w]``."""
        logits: Tensor = self.predictor(feature)
        if not self.num_hidden:
            return logits
        batch, _, height, width = logits.shape
        hidden = logits.new_full((batch, self.num_hidden, height, width), NEVER)
        return torch.cat([logits[:, :1], hidden, logits[:, 1:]], dim=1)

    def merge_targets(self, targets: Tensor) -> Tensor:
        """Labels for the loss: every thing that shares a logit becomes category 0."""
        return torch.where(targets <= self.num_hidden, 0, targets) if self.num_hidden else targets


class RefinedSemanticHead(nn.Module):
    """Refined logits from F_sem and the canvas (``H~_sem``, eq. 6 of the paper).

    Planes of the canvas without an instance are zero and add nothing to a convolution, so callers
    give the other planes only, and the first layer uses its weights for these.

    Args:
        channels: Channels of F_sem, a multiple of 32.
        num_planes: Planes of a full canvas (thing categories); 0 if the head reads F_sem alone.
        num_categories: Number of things and stuff.
        num_convs: Number of 3x3 convolutions before the 1x1 predictor.
        starts_at_zero: Whether the predictor starts at zero, and so does the result.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_planes: int,
        num_categories: int,
        num_convs: int,
        starts_at_zero: bool = False,
    ) -> None:
        super().__init__()
        self.num_planes = num_planes
        self.convs = nn.ModuleList(conv_norm_act(channels, channels) for _ in range(num_convs))
        self.predictor = nn.Conv2d(channels, num_categories, 1)
        init_he(self.predictor)
        if starts_at_zero:
            nn.init.zeros_(self.predictor.weight)
        first = cast(nn.Sequential, self.convs[0])[0] if num_convs else self.predictor
        with named_draws("canvas"):
            is_zero = starts_at_zero and not num_convs
            widen(cast(nn.Conv2d, first), num_planes, before=True, zero=is_zero)

    def forward(self, feature: Tensor, canvas: Tensor, planes: Tensor) -> Tensor:
        """Logits ``[B, num_categories, h, w]``.

        Args:
            feature: F_sem, ``[B, channels, h, w]``.
            canvas: ``[B, K, h, w]``, the planes that are not empty; not read without planes.
            planes: ``[K]`` int64 positions of these planes in a full canvas.
        """
        blocks = cast(Iterable[nn.Sequential], self.convs)
        layers = [*itertools.chain.from_iterable(blocks), self.predictor]
        x = feature
        if self.num_planes:
            conv = cast(nn.Conv2d, layers[0])
            more = None
            if len(planes):  # not joined with the feature here: both would be copied whole
                canvas = canvas.to(feature.dtype, memory_format=format_of(feature))
                more = align_channels(canvas, conv.weight[:, planes])
            x = convolve(feature, conv.weight[:, self.num_planes :], conv.bias, more)
            del layers[0]
        for layer in layers:
            x = layer(x)
        return x


def _level(in_channels: int, channels: int, stride: int, *, dcn: bool) -> nn.Sequential:
    num_upsamplings = int(math.log2(stride // 4))
    layers: list[nn.Module] = []
    for k in range(max(1, num_upsamplings)):
        block = conv_norm_act(in_channels if k == 0 else channels, channels)
        if dcn:
            block[0] = DeformableConv(cast(nn.Conv2d, block[0]))
        layers.append(block)
        if num_upsamplings:
            layers.append(Upsample())
    return nn.Sequential(*layers)
