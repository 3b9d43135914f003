"""Files of weights, whatever program wrote them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from refine.errors import RefineError
from refine.weights.caffe2 import BLOCK_NAME, convert_caffe2
from refine.weights.pickles import read_pickle
from refine.weights.stored import IMAGENET, Weights, guess_norm, load_weights, read_state
from refine.weights.trunk import find_trunk


def convert_torchvision(
    content: Mapping[str, Any], source: str, prefix: str | None = None
) -> Weights:
    """Take a state dict (:func:`read_state`) in torchvision's key names, which timm's have too.

    It may be part of another network's, under ``prefix`` (:func:`find_trunk`).
    """
    state = find_trunk(read_state(content, source=source), source=source, prefix=prefix)
    tensors = {k: v for k, v in state.items() if not k.startswith("fc.")}
    return Weights(tensors=tensors, pixels=IMAGENET, norm=guess_norm(state))


CONVERTERS: dict[str, Callable[[Mapping[str, Any], str], Weights]] = {
    "torchvision": convert_torchvision,
    "timm": convert_torchvision,
    "c2": convert_caffe2,
}
"""Functions of a file's content and name, by format; :func:`detect_format` tells formats apart."""


def read_weights(path: Path, *, file_format: str = "auto", prefix: str | None = None) -> Weights:
    """Read weights of any known format, converted to RGB images.

    The file is ``.safetensors``, or what :func:`read_content` reads; its format is a key of
    :data:`CONVERTERS`, which ``auto`` finds out. ``prefix`` chooses one of several ResNets in a
    file with torchvision's names (:func:`find_trunk`).

    Raises:
        RefineError: A missing, damaged or unsafe file, or one of another format.
    """
    if file_format not in ("auto", *CONVERTERS):
        known = ", ".join(("auto", *CONVERTERS))
        raise RefineError(f"format={file_format}: no such format; have {known}")
    if path.is_file() and path.suffix == ".safetensors":
        return load_weights(path).to_rgb()
    content = read_content(path)
    name = detect_format(content) if file_format == "auto" else file_format
    if name not in CONVERTERS:
        raise RefineError(
            f"{path}: a checkpoint of {name}, a whole network and not a backbone's weights; "
            "convert it with python -m refine.convert and an out= that ends in .ckpt"
        )
    if prefix is not None:
        if CONVERTERS[name] is not convert_torchvision:
            raise RefineError(f"{path}: prefix={prefix} is not for format={name}; leave it out")
        return convert_torchvision(content, str(path), prefix)
    return CONVERTERS[name](content, str(path)).to_rgb()


def read_content(path: Path) -> Mapping[str, Any]:
    """Read a mapping from a file of ``torch.save`` (``weights_only``) or a :func:`read_pickle`.

    Raises:
        RefineError: A missing, damaged or unsafe file, or one that holds something else.
    """
    if not path.is_file():
        raise RefineError(f"{path}: no such file")
    if path.suffix == ".pkl":
        content = read_pickle(path)
    else:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # what a damaged file raises is any of a dozen kinds
            # its text is a page of advice, to switch the protection off among it
            kind = type(error).__name__
            raise RefineError(
                f"{path}: not a readable state dict ({kind}); download it again"
            ) from None
    if not isinstance(content, Mapping):
        raise RefineError(f"{path}: holds a {type(content).__name__}, not weights by name")
    return content


def detect_format(content: Mapping[str, Any]) -> str:
    """Name of the format that the names in a file belong to."""
    inner = content.get("blobs", content.get("model", content))
    names = inner if isinstance(inner, Mapping) else content
    if any(BLOCK_NAME.fullmatch(str(name)) for name in names):
        return "c2"
    if any(str(name).startswith("backbone.bottom_up.") for name in names):
        return "detectron2"
    return "torchvision"
