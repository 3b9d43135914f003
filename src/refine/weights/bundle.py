"""A checkpoint as one safetensors file: nothing in it can run code, and other tools read it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from refine.atomic import write_atomically
from refine.errors import RefineError

_KEY = "refine"


def save_bundle(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write tensors by name, with a record as JSON in the metadata; a RefineError if it fails."""
    own = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    try:
        with write_atomically(path) as part:
            save_file(own, part, {_KEY: json.dumps(record)})
    except (OSError, SafetensorError) as error:
        raise RefineError(f"{path}: cannot be written ({error}); choose another out=") from None


def load_bundle(path: Path) -> dict[str, Any]:
    """``state_dict`` and ``refine``, the record, of a file that :func:`save_bundle` wrote.

    Raises:
        OSError, ValueError, SafetensorError: The file is damaged or another safetensors file.
    """
    with safe_open(path, "pt") as file:
        record = json.loads((file.metadata() or {}).get(_KEY, "null"))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    return {"state_dict": tensors, _KEY: record}
