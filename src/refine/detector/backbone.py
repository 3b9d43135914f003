"""ResNet or ResNeXt with a feature pyramid."""

import itertools
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from refine.detector.blocks import NUM_GROUPS, SameConv, group_norm
from refine.detector.deformable import OFFSETS, DeformableConv
from refine.detector.norms import FoldedConv, FrozenNorm, GroupNorm
from refine.errors import RefineError
from refine.options import BACKBONES, BackboneOptions
from refine.options.model import BASIC_BACKBONES

_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "gn": partial(GroupNorm, NUM_GROUPS),  # as published weights, also in narrow stages
    "frozen_bn": FrozenNorm,
    "bn": nn.BatchNorm2d,
    "sync_bn": nn.SyncBatchNorm,
}
_LAYERS = {
    "r18": (2, 2, 2, 2),
    "r34": (3, 4, 6, 3),
    "r50": (3, 4, 6, 3),
    "r152": (3, 8, 36, 3),
}
_Builder = Callable[[BackboneOptions], nn.Module]
_DEEP = (3, 4, 23, 3)  # all with 101 layers
_GROUPING = {
    "x101_32x8d": {"groups": 32, "width_per_group": 8},
    "x101_64x4d": {"groups": 64, "width_per_group": 4},
}


class Backbone(nn.Module, ABC):
    """Images to features at five strides: a body, and a feature pyramid on it.

    Args:
        parts: Modules of the body by name.
        widths: Channels of its features at strides 4, 8, 16 and 32.
        options: ``fpn_channels`` and ``norm`` are read.

    Attributes:
        channels: Channels of every level.
        strides: Strides of P2 to P6.
    """

    strides = (4, 8, 16, 32, 64)

    def __init__(
        self, parts: Mapping[str, nn.Module], *, widths: Sequence[int], options: BackboneOptions
    ) -> None:
        super().__init__()
        self.channels = options.fpn_channels
        for name, part in parts.items():
            self.add_module(name, part)
        self.fpn = FeaturePyramidNetwork(
            list(widths),
            options.fpn_channels,
            extra_blocks=_CoarsestLevel(),
            norm_layer=group_norm if options.norm == "gn" else None,
        )
        SameConv.adopt(self)

    @abstractmethod
    def features(self, images: Tensor) -> list[Tensor]:
        """The body's features at strides 4, 8, 16 and 32."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """P2 to P6, ``[B, channels, ceil(H / stride), ceil(W / stride)]``.

        Args:
            images: ``[B, 3, H, W]`` normalised; H and W multiples of 32.
        """
        features = {f"layer{k}": x for k, x in enumerate(self.features(images), start=1)}
        return list(self.fpn(features).values())


class _CoarsestLevel(ExtraFPNBlock):  # type: ignore[misc]  # torchvision has no types
    """P6: every second cell of P5 (FPN, section 4.1).

    As torchvision's pooling of 1x1 cells, which an exported program of torch 2.11 cannot have at
    any size.
    """

    def forward(
        self,
        results: list[Tensor],
        x: list[Tensor],  # noqa: ARG002 - torchvision's signature
        names: list[str],
    ) -> tuple[list[Tensor], list[str]]:
        """The levels and their names, and P6."""
        level = results[-1]
        rows, columns = (torch.arange(0, n, 2, device=level.device) for n in level.shape[2:])
        chosen = level.index_select(2, rows).index_select(3, columns)
        return [*results, chosen], [*names, "pool"]


class ResNetBackbone(Backbone):
    """The pyramid on a ResNet, whose ``fc`` is not used.

    A frozen stage never changes by a bit: its parameters take no gradient, and it stays in eval
    mode, so that batch statistics do not move either.
    """

    stem: nn.Sequential
    stages: nn.ModuleDict

    def __init__(self, body: ResNet, *, options: BackboneOptions) -> None:
        stem = OrderedDict((k, getattr(body, k)) for k in ("conv1", "bn1", "relu", "maxpool"))
        stages = {f"layer{k}": getattr(body, f"layer{k}") for k in range(1, 5)}
        super().__init__(
            {"stem": nn.Sequential(stem), "stages": nn.ModuleDict(stages)},
            widths=[body.fc.in_features // shrink for shrink in (8, 4, 2, 1)],
            options=options,
        )
        self._frozen = [self.stem, *self.stages.values()][: options.frozen_stages]
        for stage in self._frozen:
            stage.requires_grad_(False).eval()
        self._checkpoints = options.activation_checkpointing

    def train(self, mode: bool = True) -> Self:
        """Set training mode, except for frozen stages."""
        super().train(mode)
        for stage in self._frozen:
            stage.eval()
        return self

    def features(self, images: Tensor) -> list[Tensor]:
        """See :meth:`Backbone.features`."""
        x = self.stem(images)
        features = []
        for stage in self.stages.values():
            if self._checkpoints and stage.training and torch.is_grad_enabled():
                for block in stage.children():
                    x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)
            else:
                x = stage(x)
            features.append(x)
        return features


class OwnBackbone(Backbone):
    """The pyramid on a body that :func:`register_backbone` added.

    Raises:
        RefineError: The body has no ``channels``, or its features are not those that they promise.
    """

    body: nn.Module

    def __init__(self, body: nn.Module, *, options: BackboneOptions) -> None:
        widths = getattr(body, "channels", None)
        if not isinstance(body, nn.Module) or not widths or len(widths) != 4:
            raise RefineError(
                f"model.backbone.name={options.name}: built {type(body).__name__} with "
                f"channels={widths}; expected a module with the channels of its four features"
            )
        super().__init__({"body": body}, widths=widths, options=options)
        self._name, self._widths = options.name, tuple(widths)

    def features(self, images: Tensor) -> list[Tensor]:
        """See :meth:`Backbone.features`."""
        features = list(self.body(images))
        count, _, height, width = images.shape
        expected = [
            (count, channels, height // stride, width // stride)
            for channels, stride in zip(self._widths, self.strides, strict=False)
        ]
        if (found := [tuple(x.shape) for x in features]) != expected:
            raise RefineError(
                f"model.backbone.name={self._name}: gave {found}; expected {expected}"
            )
        return features


def register_backbone(name: str) -> Callable[[_Builder], _Builder]:
    """Make a function a choice of ``model.backbone.name``.

    It takes :class:`~refine.options.BackboneOptions` and returns a module: ``[B, 3, H, W]``
    normalised RGB images to a sequence of four features at strides 4, 8, 16 and 32, whose numbers
    of channels are its attribute ``channels``. H and W are multiples of 32. A ``ValueError`` if
    this package has the name itself.

    Args:
        name: Name on the command line, with ``plugins=[MODULE]`` for the module that holds it.

    Example:
        >>> import refine
        >>> @refine.register_backbone("convnext_tiny")
        ... def build_convnext(options):
        ...     return ConvNeXtBody()
    """
    BACKBONES.check_free(name)

    def register(builder: _Builder) -> _Builder:
        BACKBONES.added[name] = builder
        return builder

    return register


def build_backbone(options: BackboneOptions) -> Backbone:
    """The backbone with random weights (:mod:`refine.weights` loads others)."""
    if options.name in BACKBONES.added:
        return OwnBackbone(BACKBONES.added[options.name](options), options=options)
    body = ResNet(
        BasicBlock if options.name in BASIC_BACKBONES else Bottleneck,
        list(_LAYERS.get(options.name, _DEEP)),
        norm_layer=_NORMS[options.norm],
        **_GROUPING.get(options.name, {}),
    )
    if options.stride_in_1x1:
        for part in body.modules():
            if isinstance(part, Bottleneck):
                part.conv1.stride, part.conv2.stride = part.conv2.stride, part.conv1.stride
    for k in options.dcn_stages:
        for part in getattr(body, f"layer{k}"):
            part.conv2 = DeformableConv(
                part.conv2, modulated=options.dcn_modulated, groups=options.dcn_groups
            )
    _fold_norms(body)
    return ResNetBackbone(body, options=options)


def _fold_norms(module: nn.Module) -> None:
    """Let every convolution do the work of the frozen normalisation that follows it."""
    children = list(module.named_children())
    for (name, conv), (_, norm) in itertools.pairwise(children):
        if isinstance(norm, FrozenNorm) and isinstance(conv, DeformableConv):
            conv.absorb(norm)
        elif isinstance(norm, FrozenNorm) and isinstance(conv, nn.Conv2d):
            setattr(module, name, FoldedConv(conv, norm))
    for _, child in children:
        _fold_norms(child)


def published_keys(backbone: Backbone) -> dict[str, str]:
    """Key of every tensor in torchvision's published weights, to our own.

    A deformable convolution has the name and shape of the plain one, so it takes its weights. The
    pyramid and the convolutions that predict offsets are in no published weights.
    """
    return {
        key.removeprefix("stem.").removeprefix("stages.").removeprefix("body."): key
        for key in backbone.state_dict()
        if not key.startswith("fpn.") and f".{OFFSETS}." not in key
    }
