"""Files of named tensors with a record: written whole or not at all, and checked when read."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from refine.atomic import write_atomically
from refine.errors import RefineError, first_line

_METADATA_KEY = "refine"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write named tensors with a record of plain values; a :class:`RefineError` if it fails."""
    # safetensors writes what lies behind the pointer: it has to be contiguous
    arrays = {k: np.ascontiguousarray(t.detach().cpu().numpy()) for k, t in tensors.items()}
    with writing(path), write_atomically(path) as part:
        save_file(arrays, part, metadata={_METADATA_KEY: json.dumps(record)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Named tensors, independent of the file, and the record; or the error of :func:`torn`."""
    with _opened(path) as (file, record):
        return {name: torch.from_numpy(file.get_tensor(name)) for name in file.keys()}, record  # noqa: SIM118 - no dict


def read_record(path: Path) -> dict[str, Any] | None:
    """The record alone, of a file that is complete; None without one."""
    with suppress(RefineError), _opened(path) as (_, record):
        return record
    return None


def torn(path: Path, error: Exception) -> RefineError:
    """The error of an image's file that cannot be used."""
    return RefineError(
        f"{path}: missing, torn or no prediction ({first_line(error)}); "
        "run the command that wrote the cache again, it replaces this file"
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn failures to write ``path`` into a :class:`RefineError`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise RefineError(
            f"{path}: {first_line(error)}; fix that or choose another save_predictions"
        ) from None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    try:
        # as numpy: the arrays are copies; as torch they would be windows into the mapped file
        with safe_open(path, framework="np") as file:
            yield file, dict(json.loads(file.metadata()[_METADATA_KEY]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise torn(path, error) from None
