"""Mask head (Mask R-CNN, He et al. 2017): a 14x14 RoI feature to a 28x28 mask."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refine.modules.blocks import conv_norm_act, init_he

MASK_INPUT_SIDE = 14
"""Side of the RoI feature that the mask head reads."""
MASK_SIDE = 28
"""Side of the mask that it predicts."""


class MaskHead(nn.Module):
    """Convolutions, a x2 deconvolution, and one mask predictor for each thing category.

    Only the masks that are asked for are computed: with the label's weights gathered first, the
    1x1 predictor costs one channel instead of ``num_things``. The values are those of selecting
    the label's channel afterwards.

    Args:
        in_channels: Width of the RoI feature.
        num_things: Thing categories.
        channels: Width of the convolutions.
        num_convs: Number of 3x3 convolutions.
        norm: ``none`` or ``gn``, after each convolution.
    """

    def __init__(
        self, in_channels: int, num_things: int, *, channels: int, num_convs: int, norm: str
    ) -> None:
        super().__init__()
        widths = [in_channels] + [channels] * num_convs
        self.convs = nn.Sequential(
            *(conv_norm_act(i, o, norm=norm) for i, o in itertools.pairwise(widths))
        )
        self.deconv = nn.ConvTranspose2d(widths[-1], channels, 2, stride=2)
        init_he(self.deconv)
        self.predictor_weight = nn.Parameter(torch.empty(num_things, channels))
        self.predictor_bias = nn.Parameter(torch.zeros(num_things))
        nn.init.normal_(self.predictor_weight, std=0.001)

    def forward(self, roi_features: Tensor, labels: Tensor) -> Tensor:
        """Mask logits of each RoI for one category.

        Args:
            roi_features: ``[N, in_channels, 14, 14]``.
            labels: ``[N]`` int64 thing categories.

        Returns:
            ``[N, 28, 28]`` logits.
        """
        hidden = F.relu(self.deconv(self.convs(roi_features)))  # [N, channels, 28, 28]
        weight = self.predictor_weight[labels]  # [N, channels]
        logits = torch.einsum("nchw,nc->nhw", hidden, weight)
        return logits + self.predictor_bias[labels][:, None, None]
