"""Pixel statistics: what weights expect their images to look like."""

from dataclasses import dataclass

from torch import nn

from refine.options.checks import check, check_choice

CHANNEL_ORDERS = ("rgb", "bgr")


@dataclass(frozen=True, slots=True)
class PixelStats:
    """An image is normalised as ``(pixels - mean) / std``, channel by channel.

    Attributes:
        mean: Of pixels in 0..255, in ``channel_order``.
        std: The same.
        channel_order: ``rgb`` or ``bgr``: of the statistics and of the first convolution.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: str = "rgb"

    def __post_init__(self) -> None:
        check(len(self.mean) == 3, "mean", self.mean, "3 numbers")
        check(len(self.std) == 3 and min(self.std) > 0, "std", self.std, "3 numbers above 0")
        check_choice("channel_order", self.channel_order, CHANNEL_ORDERS)

    def to_rgb(self) -> "PixelStats":
        """The same statistics in the order of our images."""
        if self.channel_order == "rgb":
            return self
        (b, g, r), (b_std, g_std, r_std) = self.mean, self.std
        return PixelStats((r, g, b), (r_std, g_std, b_std))


IMAGENET = PixelStats((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Of torchvision and timm."""
CAFFE2 = PixelStats((103.53, 116.28, 123.675), (1.0, 1.0, 1.0), "bgr")
"""Of MSRA and Detectron: the deviation is part of the first convolution."""
CAFFE2_SCALED = PixelStats((103.53, 116.28, 123.675), (57.375, 57.12, 58.395), "bgr")
"""Of detectron2's X-101-32x8d."""


def apply_pixel_stats(network: nn.Module, stats: PixelStats) -> None:
    """Make a network of RGB images normalise them with these statistics.

    Args:
        network: Has buffers ``pixel_mean`` and ``pixel_std`` of three values; changed in place.
        stats: In either order.
    """
    rgb = stats.to_rgb()
    for name, values in (("pixel_mean", rgb.mean), ("pixel_std", rgb.std)):
        buffer = network.get_buffer(name)
        buffer.copy_(buffer.new_tensor(values).view_as(buffer))
