"""Runs as the tables see them: finished or not, from folders or from Weights & Biases."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

from refine.errors import RefineError
from refine.options import ToyOptions
from refine.report.rows import Settings, read_settings
from refine.report.runs import Run, read_metrics, read_run
from refine.report.study import LOG_NAME, flatten

State = Literal["finished", "unfinished", "failed"]

# a resolved configuration is plain YAML, and OmegaConf takes twenty times as long for hundreds
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

KIND = "kind of run"
"""Key of a fingerprint: training or evaluation."""

_MARKS = ("DONE", "config.yaml", "metrics.json", LOG_NAME)  # one of them makes a folder a run's
_NO_RUNS = ("checkpoints", "pictures", "images", ".hydra", "wandb")
_HEAD_STAGES = ("occlusion", "ranking")  # they have no panoptic quality
_DATA_PLACES = ("root", "num_workers", "cache_dir", "occlusion_pairs")
_DATA_CONTENT = ("val_split", "val_image_ids")
_TOY_CONTENT = ("seed", "num_val", "height_px", "width_px", "crowded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What a run was evaluated on, as far as its files tell.

    Attributes:
        split: The configured split and images, as text.
        is_coco: COCO's own validation split, whose values the paper prints.
        num_images: None if the run has not finished.
        categories: Ids and names as text; None if they are not known.
    """

    split: str
    is_coco: bool
    num_images: int | None = None
    categories: str | None = None

    @property
    def label(self) -> str:
        """For people."""
        name = self.split.partition("|")[0]
        return name if self.num_images is None else f"{name}, {self.num_images} images"

    def contradicts(self, other: "Dataset") -> bool:
        """Whether they differ in anything that both tell."""
        pairs = (
            (self.split, other.split),
            (self.num_images, other.num_images),
            (self.categories, other.categories),
        )
        return any(None not in pair and pair[0] != pair[1] for pair in pairs)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One run.

    Attributes:
        name: Folder, or path on Weights & Biases.
        config: Its configuration; of an evaluation, ``model`` and ``data`` are those of the
            network whose predictions it read.
        state: What became of it.
        reason: Why it has no result; empty for a finished run.
        metrics: As ``metrics.json``; empty unless it has finished.
        dataset: What it was evaluated on.
        folder: None if it is not on this disk.
        network_seed: Seed of the training of the network that an evaluation read, if it is known.
    """

    name: str
    config: Mapping[str, Any]
    state: State
    dataset: Dataset
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    folder: Path | None = None
    network_seed: int | None = None

    @cached_property
    def settings(self) -> Settings | None:
        """What decides its rows."""
        return read_settings(self.config)

    @property
    def is_evaluation(self) -> bool:
        """Of ``refine.evaluate``, not of a training."""
        return "predictions" in self.config

    @property
    def source(self) -> Path | None:
        """The cache or the checkpoint that an evaluation read; None of a training."""
        return _source(self.config) if self.is_evaluation else None

    @property
    def cache(self) -> Path | None:
        """The prediction cache that an evaluation read, if it is still there."""
        source = self.source
        return source if source is not None and (source / "header.json").is_file() else None

    @property
    def seed(self) -> str:
        """What tells repetitions of one configuration apart."""
        if not self.is_evaluation:
            return f"seed {self.config.get('seed')}"
        return str(self.source) if self.network_seed is None else f"seed {self.network_seed}"

    @cached_property
    def fingerprint(self) -> Mapping[str, Any]:
        """Everything but the seed that the result is a function of, by dotted key."""
        parts: dict[str, Any] = {KIND: "evaluation" if self.is_evaluation else "training"}
        for name in ("model", "fusion"):
            parts[name] = self.config.get(name)
        data = self.config.get("data") or {}
        parts["data"] = {k: v for k, v in data.items() if k not in _DATA_PLACES}
        if not self.is_evaluation:
            parts |= {name: self.config.get(name) for name in ("optimizer", "schedule", "weights")}
        return dict(flatten(parts))

    def load(self) -> Run:
        """The counts of every image.

        Raises:
            RefineError: The run is not on this disk, or its files are damaged.
        """
        if self.folder is None:
            raise RefineError(f"{self.name}: per_image.csv is not at hand")
        return read_run(self.folder)


def read_entries(paths: Sequence[Path]) -> tuple[list[Entry], list[str]]:
    """Every run in some folders.

    Args:
        paths: Folders of runs, or folders in which runs lie.

    Returns:
        The runs in the order of their folders, and a line for each folder that cannot be read.
    """
    entries: dict[Path, Entry] = {}
    problems: list[str] = []
    for path in paths:
        folders = list(find_run_folders(path))
        if not folders:
            what = "no run in it" if path.is_dir() else "no such folder"
            problems.append(f"{path}: {what}; name the folder of a run, a sweep or a study")
        for folder in folders:
            try:
                entry = _read_entry(folder)
            except RefineError as error:
                problems.append(str(error))
                continue
            if entry is not None:
                entries.setdefault(folder.resolve(), entry)
    return list(entries.values()), list(dict.fromkeys(problems))


def find_run_folders(path: Path) -> Iterator[Path]:
    """The folder itself and those below it that a run has written into, in order of their names."""
    for folder, subfolders, files in os.walk(path):
        subfolders[:] = sorted(name for name in subfolders if name not in _NO_RUNS)
        if any(mark in files for mark in _MARKS):
            yield Path(folder)


def from_wandb(runs: Iterable[Any], project: str) -> tuple[list[Entry], list[str]]:
    """Runs of a project on Weights & Biases.

    Args:
        runs: Of ``wandb.Api().runs(project)``; ``name``, ``id``, ``state``, ``config`` and
            ``summary`` are read.
        project: ``ENTITY/PROJECT``.

    Returns:
        As :func:`read_entries`. Per-image counts stay on the machine that ran, so there are no
        intervals.
    """
    entries, problems = [], []
    for run in runs:
        name = f"{project}/{run.id} ({run.name})"
        config = {key: value for key, value in dict(run.config).items() if key != "_wandb"}
        if read_settings(config) is None:
            problems.append(f"{name}: its configuration names no network and fusion; left out")
            continue
        if config.get("stage") in _HEAD_STAGES:
            continue
        metrics = _wandb_metrics(dict(run.summary))
        state, reason = _wandb_state(str(run.state), metrics)
        entries.append(
            Entry(
                name=name,
                config=config,
                state=state,
                reason=reason,
                metrics=metrics if state == "finished" else {},
                dataset=_dataset(config, metrics if state == "finished" else {}),
            )
        )
    return entries, problems


def _wandb_state(state: str, metrics: Mapping[str, float]) -> tuple[State, str]:
    if state in ("failed", "crashed", "killed"):
        return "failed", f"{state} on Weights & Biases"
    if state != "finished":
        return "unfinished", f"{state} on Weights & Biases"
    return ("finished", "") if "pq" in metrics else ("unfinished", "it logged no pq")


def _wandb_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of the summary, without the ``val/`` of those logged while training."""
    numbers = {k: v for k, v in summary.items() if isinstance(v, int | float)}
    validated = {k.removeprefix("val/"): v for k, v in numbers.items() if k.startswith("val/")}
    return validated | {k: v for k, v in numbers.items() if "/" not in k}


def _read_entry(folder: Path) -> Entry | None:
    """None for a stage that trains heads: it has no panoptic quality."""
    config, network_seed = _read_config(folder)
    if config.get("stage") in _HEAD_STAGES:
        return None
    if not (folder / "DONE").is_file():
        state, reason = _explain(folder)
        return Entry(
            name=str(folder),
            config=config,
            state=state,
            reason=reason,
            dataset=_dataset(config, {}),
            folder=folder,
            network_seed=network_seed,
        )
    metrics = read_metrics(folder)
    if not isinstance(metrics.get("pq"), int | float):
        raise RefineError(f"{folder / 'metrics.json'}: no pq in it; evaluate anew")
    return Entry(
        name=str(folder),
        config=config,
        state="finished",
        metrics=metrics,
        dataset=_dataset(config, metrics, _read_categories(folder)),
        folder=folder,
        network_seed=network_seed,
    )


def _explain(folder: Path) -> tuple[State, str]:
    """A study counts attempts: one that ended without DONE has failed."""
    try:
        attempts = json.loads((folder / "attempts.json").read_text())
        log = (folder / LOG_NAME).read_text(errors="replace").splitlines()
    except (OSError, ValueError):
        return "unfinished", "no DONE"
    if not attempts or attempts[-1] is None:
        return "unfinished", "no DONE"
    last = next((line.strip() for line in reversed(log) if line.strip()), "it printed nothing")
    return "failed", last[:200]


def _read_config(folder: Path) -> tuple[dict[str, Any], int | None]:
    """The configuration; ``model``, ``data`` and seed of the network that an evaluation read."""
    config = _load_yaml(folder / "config.yaml")
    source = _source(config) if "predictions" in config else None
    recorded = None if source is None else _read_source(source)
    if recorded is None:
        return config, None
    network_seed = recorded.pop("seed")
    return config | recorded, network_seed


def _source(config: Mapping[str, Any]) -> Path | None:
    """The cache or the checkpoint that an evaluation read."""
    key = "baseline_predictions" if config.get("from_baseline") else "predictions"
    value = config.get(key) or config.get("ckpt_path")
    return None if value is None else Path(str(value))


def _read_source(source: Path) -> dict[str, Any] | None:
    """``model``, ``data`` and ``seed`` of the network; None if its files are gone.

    A checkpoint lies in ``RUN/checkpoints/``, and that run's configuration tells the network.
    """
    try:
        if source.suffix == ".ckpt":
            content = _load_yaml(source.parent.parent / "config.yaml")
            seed = content.get("seed")
        else:
            checkpoint = json.loads((source / "header.json").read_text())["checkpoint"]
            content, seed = checkpoint["config"], checkpoint.get("seed")
        return {"model": content["model"], "data": content["data"], "seed": seed}
    except (OSError, ValueError, KeyError, TypeError, RefineError):
        return None


def _load_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_bytes(), Loader=_LOADER)
    except FileNotFoundError:
        raise RefineError(
            f"{path}: no such file, so it is not known what the run is; run it anew"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:150]
        raise RefineError(f"{path}: cannot be read ({reason}); run it anew") from None
    if not isinstance(content, dict):
        raise RefineError(f"{path}: no configuration in it; run it anew")
    return {str(key): value for key, value in content.items()}


def _dataset(
    config: Mapping[str, Any], metrics: Mapping[str, float], categories: str | None = None
) -> Dataset:
    data = config.get("data") or {}
    toy = data.get("toy")
    if toy:
        known = asdict(ToyOptions()) | dict(toy)  # older runs lack the younger keys
        name, content = "toy scenes", {key: known[key] for key in _TOY_CONTENT}
    else:
        name, content = str(data.get("val_split")), {key: data.get(key) for key in _DATA_CONTENT}
    number = metrics.get("num_images")
    return Dataset(
        split=f"{name}|{json.dumps(content)}",
        is_coco=not toy and name == "val2017" and data.get("val_image_ids") is None,
        num_images=None if number is None else int(number),
        categories=categories,
    )


def _read_categories(folder: Path) -> str | None:
    try:
        lines = (folder / "per_category.csv").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return "\n".join(",".join(line.split(",")[:3]) for line in lines)


def group_by(entries: Iterable[Entry], key: Callable[[Entry], str]) -> dict[str, list[Entry]]:
    """Entries by a key, in the order in which the keys come first."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(key(entry), []).append(entry)
    return groups
