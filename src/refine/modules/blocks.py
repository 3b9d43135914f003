"""Small shared pieces of the heads."""

from torch import nn

NUM_GROUPS = 32
"""Groups of every group normalisation (Wu and He 2018; detectron2's GN configs)."""


def conv_norm_act(
    in_channels: int, out_channels: int, *, kernel: int = 3, norm: str = "gn"
) -> nn.Sequential:
    """A convolution that keeps the size, an optional normalisation and a ReLU.

    Args:
        in_channels: Channels in.
        out_channels: Channels out; a multiple of 32 with ``norm="gn"``.
        kernel: Odd side of the kernel.
        norm: ``gn`` (the convolution then has no bias) or ``none``.
    """
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=norm == "none")
    init_he(conv)
    if norm == "none":
        return nn.Sequential(conv, nn.ReLU(inplace=True))
    return nn.Sequential(conv, nn.GroupNorm(NUM_GROUPS, out_channels), nn.ReLU(inplace=True))


def init_he(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
    """He's normal initialisation (fan out, ReLU), zero bias."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
