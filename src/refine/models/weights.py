"""Published weights for the backbone."""

import pickle
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import WeightsEnum, get_model_weights

from refine.errors import RefineError
from refine.models.backbone import Backbone
from refine.options import BackboneOptions

_TORCHVISION_MODELS = {
    "r18": "resnet18",
    "r50": "resnet50",
    "r101": "resnet101",
    "x101_64x4d": "resnext101_64x4d",
}
_BATCH_NORM_KEY = "bn1.running_mean"
_UNREADABLE = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    EOFError,
    OSError,
    AttributeError,
)


def load_backbone_weights(backbone: Backbone, spec: str, *, options: BackboneOptions) -> None:
    """Load published weights into a backbone; the pyramid keeps its random ones.

    Args:
        backbone: Changed in place.
        spec: ``none``, ``torchvision:NAME`` (for example ``torchvision:IMAGENET1K_V1``) or the
            path of a state dict in torchvision's key names (``.safetensors``, ``.pth``).
        options: What the backbone was built from.

    Raises:
        RefineError: Unknown weights, no network, a missing or unreadable file, BatchNorm weights
            for a GroupNorm net (or the reverse), or keys that do not fit. Only ``fc.*`` is
            dropped silently.
    """
    if spec == "none":
        if options.norm == "frozen_bn":  # of no data: activations would overflow
            raise RefineError(
                "weights=none with model.backbone.norm=frozen_bn cannot train; give weights, or "
                "add model.backbone.norm=gn model.backbone.frozen_stages=0"
            )
        return
    if spec.startswith("torchvision:"):
        state = _download(spec, options.name)
    else:
        state = _read_state(Path(spec))
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    _check_norm(state, spec, options.norm)
    _load_strictly(backbone, state, spec)


def _download(spec: str, backbone_name: str) -> dict[str, Tensor]:
    model = _TORCHVISION_MODELS[backbone_name]
    weights: type[WeightsEnum] = get_model_weights(model)
    name = spec.removeprefix("torchvision:")
    if name not in weights.__members__:
        names = ", ".join(weights.__members__)
        raise RefineError(f"weights={spec}: torchvision's {model} has {names}")
    try:
        state: dict[str, Tensor] = weights[name].get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise RefineError(
            f"weights={spec}: the download failed ({_first_line(error)}); check the network, "
            "give a local file as weights=PATH, or start from random weights with weights=none "
            "model.backbone.norm=gn"
        ) from None
    return state


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise RefineError(f"weights={path}: no such file; give a path, torchvision:NAME, or none")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        return dict(state.get("state_dict", state))
    except _UNREADABLE as error:
        raise RefineError(
            f"weights={path}: not a readable state dict ({_first_line(error)})"
        ) from None


def _check_norm(state: dict[str, Tensor], spec: str, norm: str) -> None:
    weights_norm = "bn" if _BATCH_NORM_KEY in state else "gn"
    if weights_norm != norm.split("_")[-1]:
        raise RefineError(
            f"weights={spec} are {weights_norm.upper()} weights but model.backbone.norm={norm}; "
            "use weights of the same normalisation, model.backbone.norm="
            f"{'frozen_bn' if weights_norm == 'bn' else 'gn'}, or weights=none"
        )


def _load_strictly(backbone: Backbone, state: dict[str, Tensor], spec: str) -> None:
    expected = {_torchvision_key(key): key for key in backbone.state_dict() if "fpn." not in key}
    # FrozenBatchNorm2d has no num_batches_tracked; BatchNorm's counter carries no information
    counters = {key for key in state if key.endswith("num_batches_tracked")}
    given = set(state) - counters
    wanted = {key for key in expected if not key.endswith("num_batches_tracked")}
    misshaped = {
        key
        for key in given & wanted
        if state[key].shape != backbone.state_dict()[expected[key]].shape
    }
    problems = [
        f"{title}: {', '.join(sorted(keys))}"
        for title, keys in (
            ("missing", wanted - given),
            ("unknown", given - wanted),
            ("of another shape", misshaped),
        )
        if keys
    ]
    if problems:
        raise RefineError(f"weights={spec} do not fit this backbone; {'; '.join(problems)}")
    backbone.load_state_dict({expected[key]: state[key] for key in given}, strict=False)


def _torchvision_key(key: str) -> str:
    return key.removeprefix("stem.").removeprefix("stages.")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
