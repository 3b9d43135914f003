"""Files from the network: whole, checked, and kept."""

import hashlib
import logging
import os
import re
import secrets
import shutil
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

import torch

from refine.errors import RefineError

_log = logging.getLogger(__name__)

SCHEMES = ("http", "https", "file")
_TIMEOUT_S = 30
_CARRIES_HASH = re.compile(r"-[0-9a-f]{8,}\.\w+$")  # the habit of torchvision and timm


class DownloadError(RefineError):
    """The file could not be had; another place or another time may help."""


def cache_dir() -> Path:
    """Where downloads stay: ``$REFINE_CACHE``, or where torchvision keeps its own."""
    if folder := os.environ.get("REFINE_CACHE"):
        return Path(folder).expanduser()
    return Path(torch.hub.get_dir()) / "checkpoints"


def fetch(url: str, *, sha256: str | None = None) -> Path:
    """A local copy of a file; downloaded unless the cache has it.

    Args:
        url: ``https:``, ``http:`` or ``file:``.
        sha256: The hash in hexadecimal, or its first eight digits and more.

    Raises:
        DownloadError: No network, no such file, cut short, or of another hash; the cache then
            holds nothing of it.
        RefineError: What is in the cache has another hash.
    """
    path = cache_dir() / _cache_name(url)
    if not path.is_file():
        _download(url, path, sha256)
    elif sha256 is not None:
        check_sha256(path, sha256, mend="delete it, and it is fetched again")
    return path


def check_sha256(path: Path, expected: str, *, mend: str) -> None:
    """Refuse a file of another hash.

    Args:
        path: The file.
        expected: Hexadecimal; the first eight digits and more.
        mend: What the message advises.

    Raises:
        RefineError: The hash differs.
    """
    actual = _sha256(path)
    if not actual.startswith(expected.lower()):
        raise RefineError(f"{path}: its sha256 is {actual}, not {expected}; {mend}")


def _download(url: str, path: Path, sha256: str | None) -> None:
    _make_folder(path.parent)
    _log.info("downloading %s to %s", url, path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # several processes may fetch
    try:
        expected_bytes = _copy(url, part)
        _check_download(part, url, expected_bytes, sha256)
        part.replace(path)
    except (OSError, HTTPException, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DownloadError(
            f"{url}: the download failed ({reason}); check the address and the network"
        ) from None
    finally:
        part.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefineError(
            f"{folder}: the cache cannot be made ({error.strerror}); name another folder in the "
            "environment variable REFINE_CACHE"
        ) from None


def _copy(url: str, part: Path) -> int | None:
    """Returns how many bytes the sender promised."""
    with urlopen(url, timeout=_TIMEOUT_S) as response, part.open("wb") as file:
        shutil.copyfileobj(response, file, 1 << 20)
        length = response.headers.get("Content-Length")
    return int(length) if length is not None else None


def _check_download(part: Path, url: str, expected_bytes: int | None, sha256: str | None) -> None:
    size = part.stat().st_size
    if expected_bytes is not None and size != expected_bytes:
        raise DownloadError(
            f"{url}: the download was cut short at {size} of {expected_bytes} bytes; nothing was "
            "kept, try again"
        )
    actual = _sha256(part) if sha256 is not None else ""
    if sha256 is not None and not actual.startswith(sha256.lower()):
        raise DownloadError(
            f"{url}: what came has sha256 {actual}, not {sha256}; nothing was kept, check the "
            "address and the hash"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cache_name(url: str) -> str:
    """The file's own name; with a mark of the address unless the name carries its hash."""
    name = Path(unquote(urlsplit(url).path)).name or "download"
    if _CARRIES_HASH.search(name):
        return name
    mark = hashlib.sha256(url.encode()).hexdigest()[:8]
    stem, suffix = Path(name).stem, Path(name).suffix
    return f"{stem}-{mark}{suffix}"
