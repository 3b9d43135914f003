"""ResNet or ResNeXt with a feature pyramid."""

import logging
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from refine.modules.blocks import NUM_GROUPS, group_norm
from refine.options import BackboneOptions

_log = logging.getLogger(__name__)

LEVELS = ("p2", "p3", "p4", "p5", "p6")

_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "gn": partial(nn.GroupNorm, NUM_GROUPS),  # as published weights, also in narrow stages
    "frozen_bn": FrozenBatchNorm2d,
    "sync_bn": nn.SyncBatchNorm,
}


class Backbone(nn.Module):
    """Images to features at five strides.

    Args:
        body: ResNet whose ``fc`` is not used.
        body_channels: Channels of ``layer1`` to ``layer4``.
        options: Width of the pyramid, normalisation, frozen stages.

    Attributes:
        channels: Channels of every level.
        strides: Of P2 to P6.
    """

    strides = (4, 8, 16, 32, 64)

    def __init__(
        self, body: ResNet, body_channels: tuple[int, ...], *, options: BackboneOptions
    ) -> None:
        super().__init__()
        self.channels = options.fpn_channels
        self.stem = nn.Sequential()
        for name in ("conv1", "bn1", "relu", "maxpool"):
            self.stem.add_module(name, getattr(body, name))
        self.stages = nn.ModuleDict({f"layer{k}": getattr(body, f"layer{k}") for k in range(1, 5)})
        self.fpn = FeaturePyramidNetwork(
            list(body_channels),
            options.fpn_channels,
            extra_blocks=LastLevelMaxPool(),
            norm_layer=group_norm if options.norm == "gn" else None,
        )
        self._freeze(options.frozen_stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of P2 to P6.

        Args:
            images: ``[B, 3, H, W]`` normalised; H and W multiples of 32.

        Returns:
            Five tensors ``[B, channels, ceil(H / stride), ceil(W / stride)]``.
        """
        x = self.stem(images)
        features = {}
        for name, stage in self.stages.items():
            x = stage(x)
            features[name] = x
        return list(self.fpn(features).values())

    def _freeze(self, num_stages: int) -> None:
        for stage in [self.stem, *self.stages.values()][:num_stages]:
            for parameter in stage.parameters():
                parameter.requires_grad_(False)


def build_backbone(options: BackboneOptions) -> Backbone:
    """The backbone with random weights (:mod:`refine.models.weights` loads others)."""
    block = BasicBlock if options.name == "r18" else Bottleneck
    layers = {"r18": [2, 2, 2, 2], "r50": [3, 4, 6, 3]}.get(options.name, [3, 4, 23, 3])
    grouping = {"groups": 64, "width_per_group": 4} if options.name == "x101_64x4d" else {}
    body = ResNet(block, layers, norm_layer=_NORMS[options.norm], **grouping)
    channels = tuple(width * block.expansion for width in (64, 128, 256, 512))
    return Backbone(body, channels, options=options)
