"""Weights with what travels along, in memory and as safetensors."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from refine.errors import RefineError
from refine.options.checks import check_choice
from refine.weights.pixels import IMAGENET, PixelStats

NORMS = ("gn", "bn", "affine")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """A state dict and what it expects of the network around it.

    Attributes:
        tensors: By torchvision's key names, without the classifier.
        pixels: Normalisation of the images.
        norm: ``gn``; ``bn`` with its statistics; or ``affine``: a batch norm whose statistics
            have been folded into weight and bias, which only a frozen one can stand for.
        stride_in_1x1: Whether bottlenecks shrink the image in their first 1x1 convolution (MSRA)
            or in the 3x3 (torchvision).
    """

    tensors: dict[str, Tensor]
    pixels: PixelStats
    norm: str
    stride_in_1x1: bool = False

    def to_rgb(self) -> "Weights":
        """The same function of RGB images: the first convolution's input channels are reversed."""
        if self.pixels.channel_order == "rgb":
            return self
        tensors = dict(self.tensors)
        first = tensors.get("conv1.weight")
        if first is not None and first.dim() == 4:
            tensors["conv1.weight"] = first.flip(1)
        return replace(self, tensors=tensors, pixels=self.pixels.to_rgb())


def save_weights(weights: Weights, path: Path) -> None:
    """Write safetensors with the rest as metadata, whole or not at all.

    Raises:
        RefineError: The folder cannot be written.
    """
    metadata = {
        "pixel_mean": json.dumps(weights.pixels.mean),
        "pixel_std": json.dumps(weights.pixels.std),
        "channel_order": weights.pixels.channel_order,
        "norm": weights.norm,
        "stride_in_1x1": json.dumps(weights.stride_in_1x1),
    }
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in weights.tensors.items()}, part, metadata)
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise RefineError(f"{path}: cannot be written ({error}); choose another out=") from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def load_weights(path: Path) -> Weights:
    """Read what :func:`save_weights` wrote, or a plain safetensors in torchvision's key names.

    Without metadata, torchvision's conventions hold.

    Raises:
        RefineError: The file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise RefineError(f"{path}: not a readable safetensors file ({error})") from None
    try:
        return _assemble(tensors, metadata)
    except (ValueError, TypeError) as error:
        raise RefineError(f"{path}: bad metadata ({error}); convert the source again") from None


def guess_norm(names: Mapping[str, object]) -> str:
    """``bn`` if there are running statistics, else ``gn``."""
    return "bn" if any(name.endswith(".running_mean") for name in names) else "gn"


def _assemble(tensors: dict[str, Tensor], metadata: Mapping[str, str]) -> Weights:
    norm = metadata.get("norm", guess_norm(tensors))
    check_choice("norm", norm, NORMS)
    pixels = IMAGENET
    if "pixel_mean" in metadata:
        pixels = PixelStats(
            tuple(json.loads(metadata["pixel_mean"])),
            tuple(json.loads(metadata.get("pixel_std", "null"))),
            metadata.get("channel_order", "rgb"),
        )
    return Weights(
        tensors={k: v for k, v in tensors.items() if not k.startswith("fc.")},
        pixels=pixels,
        norm=norm,
        stride_in_1x1=json.loads(metadata.get("stride_in_1x1", "false")) is True,
    )
