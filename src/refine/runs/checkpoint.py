"""What a checkpoint says of itself, read without building anything."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refine.categories import CategoryTable
from refine.config.flatten import flatten
from refine.config.instantiate import to_options
from refine.config.settings import Sections
from refine.errors import RefineError
from refine.options import ModelOptions
from refine.runs.console import say
from refine.weights.bundle import load_bundle

_OF_DETECTRON2 = (
    "ckpt_path={path}: not a checkpoint of refine.train; if it is one of detectron2, convert it: "
    "python -m refine.convert source={path} out=NAME.ckpt"
)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A trained pipeline on disk.

    Attributes:
        path: The file.
        config: Resolved configuration of its training, plain containers.
        categories: What its heads predict.
        weights: State dict of the pipeline.
        heads: Occlusion and ranking heads in it, by name, as
            :func:`refine.order.heads.describe_head` describes them.
        has_training_state: Whether a training can be resumed from it.
        step: Number of training steps taken.
    """

    path: Path
    config: dict[str, Any]
    categories: CategoryTable
    weights: dict[str, Tensor]
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)
    has_training_state: bool = False
    step: int = 0

    def require_training_state(self) -> None:
        """Raise a ``RefineError`` if no training can be resumed from it."""
        if not self.has_training_state:
            raise RefineError(
                f"ckpt_path={self.path}: holds weights alone (it was converted), so no training "
                f"can be resumed from it; start a new one from its network with weights={self.path}"
            )

    @property
    def sections(self) -> Sections:
        """Its data, model and fusion settings."""
        return Sections.read(self.config)

    @property
    def network(self) -> dict[str, Tensor]:
        """State dict of the network alone."""
        return _strip(self.weights, "network.")

    def head(self, name: str) -> dict[str, Tensor]:
        """State dict of one head."""
        return _strip(self.weights, f"heads.{name}.")


def make_record(config: dict[str, Any], categories: CategoryTable) -> dict[str, Any]:
    """What :func:`read_checkpoint` needs besides the weights and, if there are any, ``heads``."""
    return {"config": config, "categories": categories.to_json()}


def hash_weights(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and bytes of a state dict."""
    content = hashlib.sha256()
    for name in sorted(weights):
        content.update(name.encode())
        flat = weights[name].detach().cpu().contiguous().view(-1)
        content.update(flat.view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of ``refine.train``, or a bundle of ``refine.export`` (``.safetensors``).

    Raises:
        RefineError: The file is missing, cut short, or not of this package.
    """
    if not path.is_file():
        raise RefineError(f"ckpt_path={path}: no such file; training writes RUN/checkpoints/*.ckpt")
    if path.suffix == ".pkl":
        raise RefineError(_OF_DETECTRON2.format(path=path))
    try:
        if path.suffix == ".safetensors":
            content: Any = load_bundle(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises is any of a dozen kinds
        raise RefineError(
            f"ckpt_path={path}: not a readable checkpoint (cut short, or not written by "
            "refine.train); use another one of the run's checkpoints"
        ) from error
    record = content.get("refine") if isinstance(content, dict) else None
    if record is None and "model" in (content if isinstance(content, dict) else ()):
        raise RefineError(_OF_DETECTRON2.format(path=path))
    if not isinstance(record, dict):
        raise RefineError(f"ckpt_path={path}: not a checkpoint of refine.train")
    try:
        return _read_record(path, content, record)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RefineError(
            f"ckpt_path={path}: damaged, or not written by refine.train "
            f"({type(error).__name__}: {error!s:.80}); use another one of the run's checkpoints"
        ) from None


def _read_record(path: Path, content: Mapping[str, Any], record: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint; one of four errors if a part of it is missing or of another kind."""
    weights, heads, config = content["state_dict"], record.get("heads", {}), record["config"]
    for part in (weights, heads, config):
        if not isinstance(part, dict):
            raise TypeError("state_dict, heads and config have to be dictionaries")
    sections = [config[name] for name in ("data", "model", "fusion")]
    if not all(isinstance(section, dict) for section in (*sections, *heads.values())):
        raise TypeError("sections and heads have to be dictionaries")
    if not isinstance(record["categories"], list):
        raise TypeError("categories have to be a list")
    if not all(isinstance(name, str) for name in (*weights, *heads, *config)):
        raise TypeError("names have to be text")
    if not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise TypeError("state_dict has to hold tensors")
    table = CategoryTable.of(record["categories"], source=str(path))
    return Checkpoint(
        path,
        config,
        table,
        _strip(weights, "pipeline."),
        heads,
        has_training_state="optimizer_states" in content,
        step=content.get("global_step", 0),
    )


def find_readable(path: Path) -> Checkpoint | None:
    """The checkpoint, or else the newest one beside it that can be read, which is said; or None."""
    others = sorted(path.parent.glob("*.ckpt"), key=lambda p: p.stat().st_mtime, reverse=True)
    candidates = [p for p in (path, *others) if p.is_file()]
    for number, candidate in enumerate(candidates):
        with suppress(RefineError):
            found = read_checkpoint(candidate)
            if number and not found.has_training_state:
                continue
            if number:
                say(f"{candidates[0]} cannot be read: goes on from {candidate}, step {found.step}")
            return found
    return None


def _strip(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights whose names start with the prefix, without it."""
    return {k.removeprefix(prefix): t for k, t in weights.items() if k.startswith(prefix)}


def check_categories(checkpoint: Checkpoint, categories: CategoryTable, *, source: str) -> None:
    """Refuse a dataset with other categories than the checkpoint's; their colours may differ.

    A :class:`RefineError` names the first difference of ids, names or things and stuff.
    """
    ours, theirs = (
        [(c.name, c.dataset_id, c.is_thing) for c in table.categories]
        for table in (checkpoint.categories, categories)
    )
    if ours == theirs:
        return
    pairs = zip(ours, theirs, strict=False)
    differences = (f"{a[0]!r} (id {a[1]}) against {b[0]!r} (id {b[1]})" for a, b in pairs if a != b)
    first = next(differences, f"{len(ours)} against {len(theirs)} categories")
    raise RefineError(
        f"ckpt_path={checkpoint.path} was trained on other categories than {source} has: {first}; "
        "use that dataset, or a checkpoint trained on this one"
    )


def check_model(checkpoint: Checkpoint, model: Mapping[str, Any]) -> None:
    """Refuse, as a ``RefineError``, other model options (plain) than the checkpoint's."""
    # read as options: one that is younger than the checkpoint had its default's meaning
    before = flatten(asdict(to_options(checkpoint.config["model"], ModelOptions)))
    for key, value in sorted(flatten(model).items()):
        if before.get(key) != value:
            raise RefineError(
                f"ckpt_path={checkpoint.path} was trained with model.{key}={before.get(key)}, not "
                f"{value}; use the same model, or train another one without ckpt_path"
            )
