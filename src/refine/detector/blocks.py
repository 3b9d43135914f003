"""Layers that several heads use, and how their weights start."""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from refine.detector.norms import GroupNorm
from refine.ops.conversion import align_channels, upsample_twice
from refine.ops.convolution import convolve

NUM_GROUPS = 32
"""Groups of a group normalisation (Wu and He 2018; detectron2's GN configs)."""
_NARROW_GROUP = 8
"""Channels per group in layers of fewer than 128 channels."""


def conv_norm_act(
    in_channels: int, out_channels: int, *, kernel: int = 3, norm: str = "gn"
) -> nn.Sequential:
    """A convolution (odd kernel) that keeps the size, an optional normalisation and a ReLU.

    ``norm`` is ``none`` or ``gn``: no bias then, and ``out_channels`` is a multiple of 32.
    """
    conv = SameConv(in_channels, out_channels, kernel, padding=kernel // 2, bias=norm == "none")
    init_he(conv)
    norms = [] if norm == "none" else [group_norm(out_channels)]
    return nn.Sequential(conv, *norms, nn.ReLU(inplace=True))


class SameConv(nn.Conv2d):
    """A convolution that keeps the size (:func:`convolve`), of any number of channels."""

    @classmethod
    def adopt(cls, part: nn.Module) -> None:
        """Let those convolutions of another's module that keep the size compute as ours do."""
        for module in part.modules():
            if type(module) is not nn.Conv2d or module.padding_mode != "zeros":
                continue
            same = tuple(side // 2 for side in module.kernel_size)
            plain = {*module.stride, *module.dilation, module.groups} == {1}
            if plain and module.padding == same and same[0] == same[1]:
                module.__class__ = cls

    def forward(self, x: Tensor) -> Tensor:
        """``[B, in_channels, h, w]`` to ``[B, out_channels, h, w]``."""
        return convolve(*align_channels(x, self.weight), self.bias)


class Upsample(nn.Module):
    """Twice the size, bilinearly (:func:`upsample_twice`)."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` to ``[B, C, 2 h, 2 w]``."""
        return upsample_twice(x)


def group_norm(channels: int) -> nn.GroupNorm:
    """32 groups, or fewer in narrow layers; ``channels`` is a multiple of 32.

    With two channels per group it would almost be instance normalisation, which removes the mean
    colour of an image from its features: the semantic heads of a 64-channel network then had four
    times the loss after 140 steps on toy scenes.
    """
    is_narrow = channels < 4 * NUM_GROUPS
    return GroupNorm(channels // _NARROW_GROUP if is_narrow else NUM_GROUPS, channels)


@contextmanager
def named_draws(name: str) -> Iterator[None]:
    """Initial weights drawn inside depend on the global seed and this name alone.

    So two networks of one seed share the weights of every part that both have. Contexts may be
    nested; their names then form a path.
    """
    content = f"{torch.initial_seed()}/{name}".encode()
    seed = int.from_bytes(hashlib.sha256(content).digest()[:8]) >> 1
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def widen(
    layer: nn.Conv2d | nn.ConvTranspose2d,
    count: int,
    *,
    outputs: bool = False,
    before: bool = False,
    zero: bool = False,
) -> None:
    """Give a layer more channels and keep the weights that it has.

    Args:
        layer: A layer drawn by :func:`init_he`.
        count: Number of channels to add; 0 changes nothing.
        outputs: Whether they are output channels (of a ``Conv2d``), else input channels.
        before: Whether they come before the others, else after them.
        zero: Whether their weights start at zero, else as those of :func:`init_he`.
    """
    dim = int(isinstance(layer, nn.Conv2d) and not outputs)
    shape = list(layer.weight.shape)
    shape[dim] = count
    std = 0.0 if zero else math.sqrt(2 / layer.weight[:, 0].numel())
    parts = [layer.weight.detach(), torch.randn(shape) * std]
    layer.weight = nn.Parameter(torch.cat(parts[::-1] if before else parts, dim=dim))
    if not outputs:
        layer.in_channels += count
        return
    layer.out_channels += count
    if layer.bias is not None:
        layer.bias = nn.Parameter(torch.cat([layer.bias.detach(), torch.zeros(count)]))


def init_he(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
    """He's normal initialisation (fan out, ReLU), zero bias."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
