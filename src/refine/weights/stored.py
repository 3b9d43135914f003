"""Weights and what they expect of images and network, in memory and as safetensors."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from refine.atomic import write_atomically
from refine.errors import RefineError
from refine.options.checks import check, check_choice


@dataclass(frozen=True, slots=True)
class PixelStats:
    """Pixel statistics: an image is normalised as ``(pixels - mean) / std``, channel by channel.

    Pixels are in 0..255. ``channel_order``, ``rgb`` or ``bgr``, is that of the statistics and of
    the first convolution.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: str = "rgb"

    def __post_init__(self) -> None:
        check(len(self.mean) == 3, "mean", self.mean, "3 numbers")
        check(len(self.std) == 3 and min(self.std) > 0, "std", self.std, "3 numbers above 0")
        check_choice("channel_order", self.channel_order, ("rgb", "bgr"))

    def to_rgb(self) -> "PixelStats":
        """The same statistics in the order of our images."""
        if self.channel_order == "rgb":
            return self
        (b, g, r), (b_std, g_std, r_std) = self.mean, self.std
        return PixelStats((r, g, b), (r_std, g_std, b_std))


IMAGENET = PixelStats((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Statistics of torchvision and timm."""
CAFFE2 = PixelStats((103.53, 116.28, 123.675), (1.0, 1.0, 1.0), "bgr")
"""Statistics of MSRA and Detectron: the deviation is part of the first convolution."""
CAFFE2_SCALED = PixelStats((103.53, 116.28, 123.675), (57.375, 57.12, 58.395), "bgr")
"""Statistics of detectron2's X-101-32x8d."""


def pixel_buffers(stats: PixelStats) -> dict[str, Tensor]:
    """State of a network that normalises RGB images with these: two ``[3, 1, 1]`` float32."""
    rgb = stats.to_rgb()
    values = {"pixel_mean": rgb.mean, "pixel_std": rgb.std}
    return {name: torch.tensor(value).view(3, 1, 1) for name, value in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """A state dict and what it expects of the network around it.

    Attributes:
        tensors: Tensors by torchvision's key names, without the classifier.
        pixels: Normalisation of the images.
        norm: ``gn``; ``bn`` with its statistics; or ``affine``: a batch norm whose statistics
            have been folded into weight and bias, which only a frozen one can replace.
        stride_in_1x1: Stride in the bottlenecks' first 1x1 convolution (MSRA), not in the 3x3.
    """

    tensors: dict[str, Tensor]
    pixels: PixelStats
    norm: str
    stride_in_1x1: bool = False

    def to_rgb(self) -> "Weights":
        """The same function of RGB images: the first convolution's input channels are reversed."""
        if self.pixels.channel_order == "rgb":
            return self
        tensors, first = dict(self.tensors), self.tensors.get("conv1.weight")
        if first is not None and first.dim() == 4:
            tensors["conv1.weight"] = first.flip(1)
        return replace(self, tensors=tensors, pixels=self.pixels.to_rgb())


def save_weights(weights: Weights, path: Path) -> None:
    """Write safetensors with the rest as metadata; a :class:`RefineError` if that fails."""
    metadata = {
        "pixel_mean": json.dumps(weights.pixels.mean),
        "pixel_std": json.dumps(weights.pixels.std),
        "channel_order": weights.pixels.channel_order,
        "norm": weights.norm,
        "stride_in_1x1": json.dumps(weights.stride_in_1x1),
    }
    try:
        with write_atomically(path) as part:
            save_file({k: v.contiguous() for k, v in weights.tensors.items()}, part, metadata)
    except (OSError, SafetensorError) as error:
        raise RefineError(f"{path}: cannot be written ({error}); choose another out=") from None


def load_weights(path: Path) -> Weights:
    """Read what :func:`save_weights` wrote, or a plain safetensors with torchvision's conventions.

    Raises:
        RefineError: The file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise RefineError(f"{path}: not a readable safetensors file ({error})") from None
    norm, pixels = metadata.get("norm", guess_norm(tensors)), IMAGENET
    try:
        check_choice("norm", norm, ("gn", "bn", "affine"))
        if "pixel_mean" in metadata:
            mean, std = (
                tuple(json.loads(metadata.get(key, "null"))) for key in ("pixel_mean", "pixel_std")
            )
            pixels = PixelStats(mean, std, metadata.get("channel_order", "rgb"))
        stride_in_1x1 = json.loads(metadata.get("stride_in_1x1", "false")) is True
    except (ValueError, TypeError) as error:
        raise RefineError(f"{path}: bad metadata ({error}); convert the source again") from None
    tensors = {k: v for k, v in tensors.items() if not k.startswith("fc.")}
    return Weights(tensors=tensors, pixels=pixels, norm=norm, stride_in_1x1=stride_in_1x1)


def read_state(content: Mapping[str, Any], *, source: str) -> dict[str, Tensor]:
    """Tensors by name, on their own or under ``state_dict`` or ``model``; arrays become tensors.

    Raises:
        RefineError: There are none, or other things among them (``source``: file name).
    """
    state = content.get("state_dict", content.get("model", content))
    if not isinstance(state, Mapping) or not state:
        raise RefineError(f"{source}: not a state dict; it holds no tensors by name")
    strangers = sorted(str(k) for k, v in state.items() if not _is_numbers(v))
    if strangers:
        raise RefineError(f"{source}: not a state dict; not tensors: {', '.join(strangers)}")
    return {str(name): torch.as_tensor(value) for name, value in state.items()}


def _is_numbers(value: object) -> bool:
    return isinstance(value, Tensor) or (
        isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
    )


def guess_norm(names: Mapping[str, object]) -> str:
    """``bn`` if there are running statistics, else ``gn``."""
    return "bn" if any(name.endswith(".running_mean") for name in names) else "gn"


def describe_misfit(*, missing: set[str], unknown: set[str], misshaped: set[str]) -> str | None:
    """One line that lists the keys of a state dict that do not fit a network; None if all do."""
    problems = {"missing": missing, "unknown": unknown, "of another shape": misshaped}
    return "; ".join(f"{k}: {', '.join(sorted(v))}" for k, v in problems.items() if v) or None
