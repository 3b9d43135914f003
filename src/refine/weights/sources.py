"""Where weights come from: names of published files, addresses, paths."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from torchvision.models import get_model_weights, get_weight

from refine.errors import RefineError
from refine.weights.download import SCHEMES, carried_hash, check_sha256, fetch

_TORCHVISION_MODELS = {
    "r18": "resnet18",
    "r50": "resnet50",
    "r101": "resnet101",
    "x101_32x8d": "resnext101_32x8d",
    "x101_64x4d": "resnext101_64x4d",
}
_FAIR = "https://dl.fbaipublicfiles.com"
_TIMM = "https://github.com/huggingface/pytorch-image-models/releases/download"
_URLS = {
    "timm": {"resnet50_gn.a1h_in1k": f"{_TIMM}/v0.1-rsb-weights/resnet50_gn_a1h2-8fe6c4d0.pth"},
    "c2": {
        # detectron2's own copies of MSRA's, which keep the statistics of the batch norm
        "R-50": f"{_FAIR}/detectron2/ImageNetPretrained/MSRA/R-50.pkl",
        "R-101": f"{_FAIR}/detectron2/ImageNetPretrained/MSRA/R-101.pkl",
        "R-50-GN": f"{_FAIR}/detectron/ImageNetPretrained/47261647/R-50-GN.pkl",
        "R-101-GN": f"{_FAIR}/detectron/ImageNetPretrained/47592356/R-101-GN.pkl",
        "X-101-32x8d": f"{_FAIR}/detectron2/ImageNetPretrained/FAIR/X-101-32x8d.pkl",
        "X-101-64x4d": f"{_FAIR}/detectron/ImageNetPretrained/FBResNeXt/X-101-64x4d.pkl",
    },
}
_HASH = re.compile(r"(.+)@sha256:([0-9a-fA-F]{8,64})")


def locate_weights(spec: str, *, backbone: str | None = None) -> Path:
    """The local file of some weights, downloaded if necessary.

    Args:
        spec: ``torchvision:NAME``, ``timm:NAME``, ``c2:NAME``, an address, or a path; any of
            them may end in ``@sha256:HEX``.
        backbone: Name of our backbone, which says whose weights ``torchvision:IMAGENET1K_V1`` are;
            torchvision's full name (``torchvision:ResNet50_Weights.IMAGENET1K_V1``) needs none.

    Raises:
        RefineError: An unknown name, no such file, a failed download, or another hash.
    """
    match = _HASH.fullmatch(spec)
    if match is None and "@sha256:" in spec:
        raise RefineError(f"{spec}: a sha256 has 64 hexadecimal digits; give 8 or more of them")
    place, sha256 = (match[1], match[2]) if match else (spec, None)
    kind, _, name = place.partition(":")
    if kind == "torchvision" or kind in _URLS:
        url = _find_torchvision(name, backbone) if kind == "torchvision" else _find(kind, name)
        return fetch(url, sha256=sha256 or carried_hash(url))
    if urlsplit(place).scheme in SCHEMES:
        return fetch(place, sha256=sha256)
    path = Path(place)
    if not path.is_file():
        raise RefineError(
            f"{path}: no such file; give a path, an address, torchvision:NAME, timm:NAME or c2:NAME"
        )
    if sha256 is not None:
        check_sha256(path, sha256, fix="use the right file, or leave out the hash")
    return path


def _find(kind: str, name: str) -> str:
    for known, url in _URLS[kind].items():
        if name in (known, known.split(".")[0]):
            return url
    raise RefineError(f"{kind}:{name}: no such weights; have {', '.join(_URLS[kind])}")


def _find_torchvision(name: str, backbone: str | None) -> str:
    if "." in name or backbone is None:
        try:
            return str(get_weight(name).url)
        except ValueError:
            raise RefineError(
                f"torchvision:{name}: no such weights; give for example "
                "torchvision:ResNet50_Weights.IMAGENET1K_V1"
            ) from None
    model = _TORCHVISION_MODELS[backbone]
    known = get_model_weights(model)
    if name not in known.__members__:
        have = ", ".join(known.__members__)
        raise RefineError(f"torchvision:{name}: torchvision's {model} has {have}")
    return str(known[name].url)
