"""ResNets of Caffe2, Detectron and detectron2's ImageNet zoo, renamed to torchvision's keys.

The names are facts of the files; what they mean was read in detectron2 (Apache-2.0),
``checkpoint/c2_model_loading.py`` and ``checkpoint/catalog.py``.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refine.errors import RefineError
from refine.weights.stored import CAFFE2, CAFFE2_SCALED, PixelStats, Weights, guess_norm

_log = logging.getLogger(__name__)

_FROZEN_EPS = 1e-5  # torchvision's FrozenBatchNorm2d divides by sqrt(var + eps)
_CLASSIFIER = re.compile(r"(pred|fc|fc1000)_[wb]")
_SOLVER = re.compile(r".*_momentum|lr|iter|optimizer_iteration|model_iter|weight_order")
BLOCK_NAME = re.compile(r"res([2-5])_(\d+)_branch(1|2a|2b|2c)_(.+)")
_STEM = re.compile(r"(?:res_(?=conv1_bn)|(?!conv1_bn))conv1_(.+)")
_CONV_PARTS = {"w": "weight", "b": "bias"}
_NORM_PARTS = {
    **dict.fromkeys(("s", "gamma"), "weight"),
    **dict.fromkeys(("b", "beta"), "bias"),
    **dict.fromkeys(("rm", "running_mean"), "running_mean"),
    **dict.fromkeys(("riv", "running_var"), "running_var"),  # riv holds the variance
}
_BRANCHES = {
    "1": ("downsample.0", "downsample.1"),
    "2a": ("conv1", "bn1"),
    "2b": ("conv2", "bn2"),
    "2c": ("conv3", "bn3"),
}


def convert_caffe2(content: Mapping[str, Any], source: str) -> Weights:
    """Give the blobs of a Caffe2 ResNet torchvision's names.

    They stand in the pickle on their own or under ``blobs`` or ``model``. The classifier and the
    solver's state are dropped silently; biases of convolutions, which a normalisation follows, with
    a line in the log: Detectron does not use them either. ``source`` is the file name for messages.

    Raises:
        RefineError: A blob with an unknown name, or one that is no array of numbers.
    """
    blobs = content.get("blobs", content.get("model", content))
    if not isinstance(blobs, Mapping):
        raise RefineError(f"{source}: holds no blobs by name")
    kept = {
        str(name): value
        for name, value in blobs.items()
        if not (_CLASSIFIER.fullmatch(str(name)) or _SOLVER.fullmatch(str(name)))
    }
    tensors = _without_conv_biases(_rename(kept, source), source)
    norm = guess_norm(tensors)
    if norm == "gn" and not any("_gn_" in name for name in kept):
        norm = "affine"
        tensors |= _identity_statistics(tensors)
    pixels, stride_in_1x1 = _conventions(tensors, norm)
    return Weights(tensors=tensors, pixels=pixels, norm=norm, stride_in_1x1=stride_in_1x1)


def _rename(blobs: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    names = {name: _torchvision_name(name) for name in blobs}
    known = [new for new in names.values() if new is not None]
    strangers = [n for n, new in names.items() if new is None or known.count(new) > 1]
    if strangers:
        listed = ", ".join(sorted(strangers))
        raise RefineError(f"{source}: not a Caffe2 ResNet; blobs unknown or there twice: {listed}")
    return {new: _to_tensor(blobs[n], f"{source}: {n}") for n, new in names.items() if new}


def _torchvision_name(name: str) -> str | None:
    if block := BLOCK_NAME.fullmatch(name):
        stage, index, branch, part = block.groups()
        prefix, (conv, norm) = f"layer{int(stage) - 1}.{index}.", _BRANCHES[branch]
    elif stem := _STEM.fullmatch(name):
        prefix, conv, norm, part = "", "conv1", "bn1", stem[1]
    else:
        return None
    if part in _CONV_PARTS:
        return f"{prefix}{conv}.{_CONV_PARTS[part]}"
    kind, _, part = part.partition("_")
    is_known = kind in ("bn", "gn") and part in _NORM_PARTS
    return f"{prefix}{norm}.{_NORM_PARTS[part]}" if is_known else None


def _to_tensor(value: Any, label: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise RefineError(f"{label} is not an array of numbers")
    return torch.from_numpy(np.array(value, np.float32))


def _without_conv_biases(tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    biases = [k for k in tensors if re.search(r"(conv\d|downsample\.0)\.bias$", k)]
    if biases:
        message = "%s: %d biases of convolutions (largest %.1e) are left out, as Detectron does"
        _log.info(message, source, len(biases), max(float(tensors[k].abs().max()) for k in biases))
    return {k: v for k, v in tensors.items() if k not in biases}


def _identity_statistics(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Statistics that make a frozen batch norm exactly the affine map of its weight and bias."""
    result = {}
    for key, value in tensors.items():
        if re.search(r"(bn\d|downsample\.1)\.weight$", key):
            layer = key.removesuffix("weight")
            result[f"{layer}running_mean"] = torch.zeros_like(value)
            result[f"{layer}running_var"] = torch.full_like(value, 1 - _FROZEN_EPS)
    return result


def _conventions(tensors: Mapping[str, Tensor], norm: str) -> tuple[PixelStats, bool]:
    """What the published file of this structure expects.

    MSRA's ResNets have their stride in the 1x1 convolution, FAIR's ResNeXts and group norm models
    in the 3x3. Only detectron2's ResNeXt, which has statistics, wants pixels divided.
    """
    widths = [v.shape[:2] for k, v in tensors.items() if k.endswith(".0.conv2.weight")]
    grouped = any(len({*width}) > 1 for width in widths)
    if grouped:
        return (CAFFE2_SCALED if norm == "bn" else CAFFE2), False
    has_1x1 = any(".conv3." in key for key in tensors)
    return CAFFE2, has_1x1 and norm != "gn"
