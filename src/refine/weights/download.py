"""Downloaded files: complete, checked, and kept."""

import hashlib
import logging
import os
import re
import shutil
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

import torch

from refine.atomic import write_atomically
from refine.errors import RefineError, first_line

_log = logging.getLogger(__name__)

SCHEMES = ("http", "https", "file")
_TIMEOUT_S = 30
_CARRIED_HASH = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


class DownloadError(RefineError):
    """The file could not be downloaded; another place or another time may help."""


def cache_dir() -> Path:
    """Folder of downloads: ``$REFINE_CACHE``, or torchvision's own."""
    if folder := os.environ.get("REFINE_CACHE"):
        return Path(folder).expanduser()
    return Path(torch.hub.get_dir()) / "checkpoints"


def fetch(url: str, *, sha256: str | None = None) -> Path:
    """A local copy of a file; downloaded unless the cache has it.

    Args:
        url: ``https:``, ``http:`` or ``file:``.
        sha256: The hash in hexadecimal, or at least its first eight digits.

    Raises:
        DownloadError: No network, no such file, cut short, or of another hash; nothing is kept.
        RefineError: The file in the cache has another hash.
    """
    path = cache_dir() / _cache_name(url)
    if not path.is_file():
        _download(url, path, sha256)
    elif sha256 is not None:
        check_sha256(path, sha256, fix="delete it to download it again")
    return path


def check_sha256(path: Path, expected: str, *, fix: str) -> None:
    """Raise a :class:`RefineError`, ending in ``fix``, if a file has another hash."""
    if not (actual := _sha256(path)).startswith(expected.lower()):
        raise RefineError(f"{path}: its sha256 is {actual}, not {expected}; {fix}")


def carried_hash(url: str) -> str | None:
    """The first digits of the hash that torchvision and timm put into the names of files."""
    found = _CARRIED_HASH.search(url)
    return found[1] if found else None


def _download(url: str, path: Path, sha256: str | None) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefineError(
            f"{path.parent}: the cache cannot be created ({error.strerror}); name another folder "
            "in the environment variable REFINE_CACHE"
        ) from None
    _log.info("downloading %s to %s", url, path)
    try:
        with write_atomically(path) as part:
            with urlopen(url, timeout=_TIMEOUT_S) as response, part.open("wb") as file:
                shutil.copyfileobj(response, file, 1 << 20)
                promised = response.headers.get("Content-Length")
            if promised is not None and (size := part.stat().st_size) != int(promised):
                raise DownloadError(
                    f"{url}: the download was cut short at {size} of {promised} bytes; nothing was "
                    "kept, try again"
                )
            if sha256 is not None and not (actual := _sha256(part)).startswith(sha256.lower()):
                raise DownloadError(
                    f"{url}: the download has sha256 {actual}, not {sha256}; nothing was kept, "
                    "check the address and the hash"
                )
    except (OSError, HTTPException, ValueError) as error:
        raise DownloadError(
            f"{url}: the download failed ({first_line(error)}); check the address and the network"
        ) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cache_name(url: str) -> str:
    """The file's own name; with a mark of the address unless the name carries its hash."""
    name = Path(unquote(urlsplit(url).path)).name or "download"
    if carried_hash(name):
        return name
    mark = hashlib.sha256(url.encode()).hexdigest()[:8]
    return f"{Path(name).stem}-{mark}{Path(name).suffix}"
