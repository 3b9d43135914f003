"""Where weights come from: names of published files, addresses, paths; downloads are kept."""

import hashlib
import logging
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import torch
from torchvision.models import get_model_weights, get_weight

from refine.atomic import hold_folder
from refine.errors import RefineError, first_line
from refine.resumable_download import Retries, download_rest

_log = logging.getLogger(__name__)

RETRIES = Retries(attempts=3, pause_s=1, advice="check the address")
"""When a download is given up."""

_CARRIED_HASH = re.compile(r"-([0-9a-f]{8,64})\.\w+$")  # as torchvision and timm name files
_TORCHVISION_MODELS = {
    "r18": "resnet18",
    "r34": "resnet34",
    "r50": "resnet50",
    "r101": "resnet101",
    "r152": "resnet152",
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


class DownloadError(RefineError):
    """The file could not be downloaded; another place or another time may help."""


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
        carried = _CARRIED_HASH.search(url)
        return fetch(url, sha256=sha256 or (carried and carried[1]))
    if urlsplit(place).scheme in ("http", "https", "file"):
        return fetch(place, sha256=sha256)
    path = Path(place)
    if not path.is_file():
        raise RefineError(
            f"{path}: no such file; give a path, an address, torchvision:NAME, timm:NAME or c2:NAME"
        )
    if actual := _other_hash(path, sha256):
        raise RefineError(
            f"{path}: its sha256 is {actual}, not {sha256}; use the right file, or leave out the "
            "hash"
        )
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


def cache_dir() -> Path:
    """Folder of downloads: ``$REFINE_CACHE``, or torchvision's own."""
    if folder := os.environ.get("REFINE_CACHE"):
        return Path(folder).expanduser()
    return Path(torch.hub.get_dir()) / "checkpoints"


def fetch(url: str, *, sha256: str | None = None) -> Path:
    """A local copy of a file at ``https:``, ``http:`` or ``file:``; the cache keeps downloads.

    ``sha256`` is the hash in hexadecimal, or at least its first eight digits.

    Raises:
        DownloadError: No network, no such file, cut short (what has come is kept for the next
            time), or of another hash.
        RefineError: The file in the cache has another hash.
    """
    path = cache_dir() / _cache_name(url)
    if not path.is_file():
        _download(url, path, sha256)
    elif actual := _other_hash(path, sha256):
        raise RefineError(
            f"{path}: its sha256 is {actual}, not {sha256}; delete it to download it again"
        )
    return path


def _download(url: str, path: Path, sha256: str | None) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefineError(
            f"{path.parent}: the cache cannot be created ({error.strerror}); name another folder "
            "in the environment variable REFINE_CACHE"
        ) from None
    with hold_folder(path.parent, waits=True):  # other processes of the run wait for this one
        if not path.is_file():
            _complete(url, path, sha256)


def _complete(url: str, path: Path, sha256: str | None) -> None:
    """Download what is missing; without a hash, nothing of an earlier attempt is trusted."""
    _log.info("downloading %s to %s", url, path)
    part = path.with_name(f".{path.name}.part")
    try:
        if sha256 is None:
            part.unlink(missing_ok=True)
        if not part.exists() or _other_hash(part, sha256):
            download_rest(url, part, retries=RETRIES)
        if actual := _other_hash(part, sha256):
            part.unlink()
            raise DownloadError(
                f"{url}: the download has sha256 {actual}, not {sha256}; nothing was kept, "
                "check the address and the hash"
            )
        part.replace(path)
    except DownloadError:
        raise
    except (OSError, RefineError) as error:
        reason = first_line(error).removeprefix(f"{url}: ").partition(";")[0]
        raise DownloadError(
            f"{url}: the download failed ({reason}); check the address and the network"
        ) from None


def _other_hash(path: Path, expected: str | None) -> str | None:
    """The sha256 of a file if it does not begin with the expected digits."""
    if expected is None:
        return None
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    return None if actual.startswith(expected.lower()) else actual


def _cache_name(url: str) -> str:
    """The file's own name; with a mark of the address unless the name carries its hash."""
    name = Path(unquote(urlsplit(url).path)).name or "download"
    if _CARRIED_HASH.search(name):
        return name
    mark = hashlib.sha256(url.encode()).hexdigest()[:8]
    return f"{Path(name).stem}-{mark}{Path(name).suffix}"
