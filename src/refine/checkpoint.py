"""What a checkpoint says of itself, read without building anything."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refine.categories import CategoryTable
from refine.errors import RefineError

_PREFIX = "pipeline."


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A trained pipeline on disk.

    Attributes:
        path: The file.
        config: Resolved configuration of its training, plain containers.
        categories: What its heads predict.
        weights: State dict of the pipeline.
    """

    path: Path
    config: dict[str, Any]
    categories: CategoryTable
    weights: dict[str, Tensor]


def make_record(config: dict[str, Any], categories: CategoryTable) -> dict[str, Any]:
    """What :func:`read_checkpoint` needs besides the weights; plain containers."""
    return {"config": config, "categories": categories.to_json()}


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of ``refine.train``.

    Raises:
        RefineError: The file is missing, cut short, or not of this package.
    """
    if not path.is_file():
        raise RefineError(f"ckpt_path={path}: no such file; training writes RUN/checkpoints/*.ckpt")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError):
        raise RefineError(
            f"ckpt_path={path}: not a readable checkpoint (cut short, or not written by "
            "refine.train); use another one of the run's checkpoints"
        ) from None
    record = content.get("refine") if isinstance(content, dict) else None
    if record is None:
        raise RefineError(f"ckpt_path={path}: not a checkpoint of refine.train")
    weights = {
        key.removeprefix(_PREFIX): value
        for key, value in content["state_dict"].items()
        if key.startswith(_PREFIX)
    }
    table = CategoryTable.from_json(record["categories"], source=str(path))
    return Checkpoint(path, record["config"], table, weights)


def check_categories(checkpoint: Checkpoint, categories: CategoryTable, *, root: str) -> None:
    """Refuse a dataset with other categories than the checkpoint's.

    Colours may differ; dataset ids, names and things/stuff may not.

    Raises:
        RefineError: They differ; the first difference is named.
    """
    ours = [(c.dataset_id, c.name, c.is_thing) for c in checkpoint.categories.categories]
    theirs = [(c.dataset_id, c.name, c.is_thing) for c in categories.categories]
    if ours == theirs:
        return
    first = next(
        (
            f"{a[1]!r} (id {a[0]}) against {b[1]!r} (id {b[0]})"
            for a, b in zip(ours, theirs, strict=False)
            if a != b
        ),
        f"{len(ours)} against {len(theirs)} categories",
    )
    raise RefineError(
        f"ckpt_path={checkpoint.path} was trained on other categories than {root} has: {first}; "
        "use that dataset, or a checkpoint trained on this one"
    )


def check_model(checkpoint: Checkpoint, model: Mapping[str, Any]) -> None:
    """Refuse other model options than the checkpoint's.

    Args:
        checkpoint: To be resumed or restored.
        model: The ``model`` section now, plain containers.

    Raises:
        RefineError: They differ; the first difference is named.
    """
    before, now = _flatten(checkpoint.config["model"]), _flatten(model)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise RefineError(
                f"ckpt_path={checkpoint.path} was trained with model.{key}={before.get(key)}, not "
                f"{now.get(key)}; use the same model, or train another one without ckpt_path"
            )


def _flatten(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
