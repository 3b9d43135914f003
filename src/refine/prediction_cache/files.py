"""The files of a prediction cache: written whole or not at all, and checked when read."""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from refine.errors import RefineError
from refine.prediction_cache.header import FORMAT_NAME, FORMAT_VERSION, CacheHeader

_METADATA_KEY = "refine"


@dataclass(frozen=True, slots=True)
class CacheFiles:
    """Where the parts of a cache lie.

    Attributes:
        folder: The cache.
    """

    folder: Path

    @property
    def header(self) -> Path:
        """What the cache holds; written first."""
        return self.folder / "header.json"

    @property
    def index(self) -> Path:
        """Image ids; written last."""
        return self.folder / "index.json"

    @property
    def images(self) -> Path:
        """Folder of the predictions."""
        return self.folder / "images"

    def image(self, image_id: int) -> Path:
        """The file of one image."""
        return self.images / f"{image_id}.safetensors"

    def stored(self) -> set[str]:
        """Names of the image files that are there, whole or not."""
        return {path.name for path in self.images.glob("*.safetensors")}

    def load_header(self) -> CacheHeader:
        """Read what the cache holds.

        Raises:
            RefineError: There is none, it is no cache, or one of another version.
        """
        if not self.folder.is_dir():
            raise RefineError(
                f"{self.folder}: no such folder; write predictions with save_predictions=DIR"
            )
        content = read_json(self.header)
        if content is None or content.get("format") != FORMAT_NAME:
            raise RefineError(
                f"{self.folder}: no prediction cache (no header.json of one); "
                "write one with save_predictions=DIR"
            )
        if content.get("version") != FORMAT_VERSION:
            raise RefineError(
                f"{self.folder}: a prediction cache of version {content.get('version')}, this "
                f"package reads version {FORMAT_VERSION}; write it anew with save_predictions=DIR"
            )
        try:
            return CacheHeader.from_json(content)
        except (KeyError, TypeError, ValueError) as error:
            raise RefineError(f"{self.header}: damaged ({error!r}); write the cache anew") from None


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None if there is no such file or something else in it."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file.

    Raises:
        RefineError: The place cannot be written.
    """
    text = json.dumps(content, indent=1) + "\n"
    _write(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write named tensors with a record of plain values.

    Raises:
        RefineError: The place cannot be written.
    """
    # safetensors writes what lies behind the pointer: it has to be contiguous
    arrays = {k: np.ascontiguousarray(t.detach().cpu().numpy()) for k, t in tensors.items()}
    metadata = {_METADATA_KEY: json.dumps(record)}
    _write(path, lambda part: save_file(arrays, part, metadata=metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Named tensors, independent of the file, and the record.

    Raises:
        RefineError: The file is missing, cut short or none of ours.
    """
    with _opened(path) as (file, record):
        names = file.keys()
        return {name: torch.from_numpy(file.get_tensor(name)) for name in names}, record


def read_record(path: Path) -> dict[str, Any]:
    """The record alone, of a file that is whole.

    Raises:
        RefineError: The file is missing, cut short or none of ours.
    """
    with _opened(path) as (_, record):
        return record


def torn(path: Path, error: Exception) -> RefineError:
    """The error of an image's file that cannot be used."""
    return RefineError(
        f"{path}: missing, torn or no prediction ({_reason(error)}); "
        "run the command that wrote the cache again, it writes this file anew"
    )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    try:
        # as numpy: the arrays are copies; as torch they would be windows into the mapped file
        with safe_open(path, framework="np") as file:
            yield file, dict(json.loads(file.metadata()[_METADATA_KEY]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise torn(path, error) from None


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside the target and rename; other processes may write the same file meanwhile."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise RefineError(
            f"{path}: {_reason(error)}; mend that or choose another save_predictions"
        ) from None
    finally:
        with suppress(OSError):  # renamed, or never made
            part.unlink()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]
