"""The occlusion network: does instance i lie on top of instance j?

OCFusion's head (Lazarow et al. 2020) with the categories of both instances: the paper's "Strong
Baseline", whose answer soft occlusion estimation (eq. 7) weighs against the detection scores.

The input of a pair is the RoI features and masks of both instances, side by side; convolutions and
two fully connected layers, to which the categories are added, give one logit. The first convolution
and the first fully connected layer are linear in their input, so the part of each instance is
computed once as the first and once as the second of a pair, and added up for every pair: 100
instances have 9900 ordered pairs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refine.detector.blocks import init_he
from refine.detector.mask_head import MASK_INPUT_SIDE
from refine.options import OcclusionOptions


class OcclusionHead(nn.Module):
    """Ordered pairs of instances to the logit of "the first lies on top of the second"."""

    def __init__(self, in_channels: int, num_things: int, *, options: OcclusionOptions) -> None:
        super().__init__()
        self.options = options
        self.num_things = num_things
        depth = in_channels * options.use_feature + options.use_mask
        channels, hidden = options.channels, options.fc_channels
        self.first = nn.Conv2d(2 * depth, channels, 3, padding=1) if depth else None
        self.trunk = _build_trunk(options) if depth else None
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.labels = (
            nn.Parameter(torch.zeros(2, num_things, hidden)) if options.use_label else None
        )
        self.fc2 = nn.Linear(hidden, hidden)
        self.predictor = nn.Linear(hidden, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                init_he(module)
        nn.init.normal_(self.predictor.weight, std=0.01)
        if self.labels is not None:
            nn.init.normal_(self.labels, std=(2 / hidden) ** 0.5)

    def forward(self, features: Tensor, masks: Tensor, labels: Tensor, pairs: Tensor) -> Tensor:
        """Logits ``[K]`` of O(i, j); connected to the parameters' graph even if K is 0.

        Args:
            features: ``[N, in_channels, 14, 14]`` RoI features.
            masks: ``[N, 28, 28]`` mask probabilities inside the boxes.
            labels: ``[N]`` int64 thing categories.
            pairs: ``[K, 2]`` int64 ``(i, j)``.
        """
        logits = self._chunks(features, masks, labels, pairs)
        if not self.options.antisymmetric:
            return logits
        return (logits - self._chunks(features, masks, labels, pairs.flip(1))) / 2

    def _chunks(self, features: Tensor, masks: Tensor, labels: Tensor, pairs: Tensor) -> Tensor:
        parts = self._parts(features, masks)
        size = max(len(pairs), 1) if torch.is_grad_enabled() else self.options.chunk_size
        return torch.cat([self._pairs(parts, labels, chunk) for chunk in torch.split(pairs, size)])

    def _parts(self, features: Tensor, masks: Tensor) -> tuple[Tensor, Tensor] | None:
        """First convolution of each instance as the first and as the second of a pair.

        Both are ``[N, channels, 14, 14]``; None if neither features nor masks are read.
        """
        if self.first is None:
            return None
        inputs = [features] if self.options.use_feature else []
        if self.options.use_mask:
            inputs.append(F.max_pool2d(masks[:, None], 2).to(features.dtype))
        joined = torch.cat(inputs, dim=1)
        as_first, as_second = self.first.weight.chunk(2, dim=1)
        first = F.conv2d(joined, as_first, self.first.bias, padding=1)
        return first, F.conv2d(joined, as_second, padding=1)

    def _pairs(self, parts: tuple[Tensor, Tensor] | None, labels: Tensor, pairs: Tensor) -> Tensor:
        first, second = pairs.unbind(dim=1)
        hidden = self.bias.expand(len(pairs), -1)
        if parts is not None and self.trunk is not None:
            hidden = hidden + self.trunk(F.relu(parts[0][first] + parts[1][second]))
        if self.labels is not None:
            hidden = hidden + self.labels[0, labels[first]] + self.labels[1, labels[second]]
        hidden = F.relu(self.fc2(F.relu(hidden)))
        return self.predictor(hidden)[:, 0]  # type: ignore[no-any-return]


def _build_trunk(options: OcclusionOptions) -> nn.Sequential:
    """``[K, channels, 14, 14]`` to ``[K, fc_channels]``."""
    channels = options.channels
    layers: list[nn.Module] = []
    for _ in range(options.num_convs - 1):
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True)]
    layers += [nn.Conv2d(channels, channels, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
    flat = channels * (MASK_INPUT_SIDE // 2) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, options.fc_channels, bias=False))


def order_both_ways(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Both orders ``[2 K, 2]`` of pairs ``(top, bottom)``, and targets: 1.0 as given, else 0.0."""
    is_given = torch.arange(2 * len(pairs), device=pairs.device) < len(pairs)
    return torch.cat([pairs, pairs.flip(1)]), is_given.float()


def occlusion_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy of ``[K]``; without pairs a zero that keeps the logits' graph."""
    if not len(logits):
        return logits.sum()
    return F.binary_cross_entropy_with_logits(logits.float(), targets)
