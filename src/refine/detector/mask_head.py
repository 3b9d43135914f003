"""Mask head (Mask R-CNN, He et al. 2017): a 14x14 RoI feature to a 28x28 mask."""

import itertools
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refine.detector.blocks import conv_norm_act, init_he, named_draws, widen

MASK_INPUT_SIDE = 14
"""Side of the RoI feature that the mask head reads."""
MASK_SIDE = 28
"""Side of the mask that it predicts."""
_AT_ONCE = 8  # RoIs whose hidden features fit into a processor's cache


class MaskHead(nn.Module):
    """Convolutions, a x2 deconvolution, and one mask predictor for each thing category.

    Only the masks of the labels are computed: with the label's weights gathered first, the 1x1
    predictor costs one channel instead of ``num_things``. The values are those of selecting the
    label's channel afterwards.

    Args:
        in_channels: Channels of the RoI feature without p_sem.
        num_masks: Number of thing categories, or 1 for a class-agnostic head.
        channels: Channels of the convolutions.
        num_convs: Number of 3x3 convolutions.
        norm: Normalisation after each convolution, ``none`` or ``gn``.
        reads_earlier: Whether a 1x1 convolution adds the features of an earlier head (HTC).
        num_semantic: Channels of p_sem, the last ones of the RoI feature; 0 if it has none.
        semantic_start: Whether the weights on p_sem start at ``zero``, or as the others, ``plain``.
    """

    def __init__(
        self,
        in_channels: int,
        num_masks: int,
        *,
        channels: int,
        num_convs: int,
        norm: str,
        reads_earlier: bool = False,
        num_semantic: int = 0,
        semantic_start: str = "plain",
    ) -> None:
        super().__init__()
        widths = [in_channels] + [channels] * num_convs
        self.convs = nn.Sequential(
            *(conv_norm_act(i, o, norm=norm) for i, o in itertools.pairwise(widths))
        )
        self.deconv = nn.ConvTranspose2d(widths[-1], channels, 2, stride=2)
        init_he(self.deconv)
        self.predictor_weight = nn.Parameter(torch.empty(num_masks, channels))
        self.predictor_bias = nn.Parameter(torch.zeros(num_masks))
        nn.init.normal_(self.predictor_weight, std=0.001)
        self.earlier = nn.Conv2d(widths[-1], in_channels, 1) if reads_earlier else None
        if self.earlier is not None:
            init_he(self.earlier)
        first = cast(nn.Sequential, self.convs[0])[0] if num_convs else self.deconv
        with named_draws("semantics"):
            widen(cast(nn.Conv2d, first), num_semantic, zero=semantic_start == "zero")
            if self.earlier is not None:
                widen(self.earlier, num_semantic, outputs=True)

    def forward(
        self, roi_features: Tensor, labels: Tensor, earlier: Tensor | None = None
    ) -> Tensor:
        """``[N, 28, 28]`` mask logits of each RoI for one category.

        Args:
            roi_features: ``[N, in_channels + num_semantic, 14, 14]``.
            labels: ``[N]`` int64 thing categories.
            earlier: :meth:`compute_features` of an earlier head on the same RoIs.
        """
        features = self.compute_features(roi_features, earlier)
        channel = labels if len(self.predictor_bias) > 1 else torch.zeros_like(labels)
        weights = self.predictor_weight[channel][:, :, None]  # [N, channels, 1]
        size = _AT_ONCE if features.is_cpu else max(len(features), 1)
        parts = zip(torch.split(features, size), torch.split(weights, size), strict=True)
        logits = torch.cat([self._predict(*part) for part in parts])
        return logits + self.predictor_bias[channel][:, None, None]

    def _predict(self, features: Tensor, weights: Tensor) -> Tensor:
        """``[n, 28, 28]`` without bias; a deconvolution without overlaps is a matrix."""
        count, _, height, width = features.shape
        bias = cast(Tensor, self.deconv.bias).repeat(4)
        matrix = self.deconv.weight.permute(2, 3, 1, 0).flatten(0, 2)  # [2 * 2 * channels, in]
        large = F.linear(features.permute(0, 2, 3, 1), matrix, bias)
        hidden = F.relu(large, inplace=True).view(count, 4 * height * width, weights.shape[1])
        logits = torch.bmm(hidden, weights).view(count, height, width, 2, 2)
        return logits.permute(0, 1, 3, 2, 4).reshape(count, 2 * height, 2 * width)

    def compute_features(self, roi_features: Tensor, earlier: Tensor | None = None) -> Tensor:
        """``[N, channels, 14, 14]`` after the 3x3 convolutions."""
        if self.earlier is not None and earlier is not None:
            roi_features = roi_features + self.earlier(earlier)
        return self.convs(roi_features)  # type: ignore[no-any-return]
