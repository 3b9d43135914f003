"""Runs as one table: a line per run, finished or not, from folders or from Weights & Biases.

Columns of the table:

- ``name`` (folder, or path on Weights & Biases), ``folder`` (None if it is not on this disk),
  ``state`` (``finished``, ``unfinished``, ``failed``), ``reason`` (why there is no result),
  ``config`` (the whole configuration),
- ``kind`` (``training`` or ``evaluation``), ``seed`` (tells repetitions of one configuration apart:
  the seed of the network's training, else the file that an evaluation read), ``cache`` (prediction
  cache that an evaluation read, if it is still there),
- ``dataset`` (for people), ``is_coco`` (COCO's own validation split) and :data:`DATASET`,
- the settings that the result is a function of, by dotted key (missing ones are NaN; of an
  evaluation, ``model.*`` and ``data.*`` are those of the network that it read), two derived ones,
  ``backbone`` and ``head_inputs`` (see ``paper_tables.yaml``), and ``configuration``, a number that
  runs of equal settings share,
- the entries of ``metrics.json``.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from refine.config.flatten import flatten
from refine.errors import RefineError
from refine.options import ToyOptions
from refine.report.finished_run import read_metrics
from refine.report.paper import read_content

DATASET = ["split", "num_images", "categories"]
"""What tells datasets apart, as far as a run's files tell: split and images as text, number of
images, categories as text; None is not known."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a fraction of OmegaConf's time
_MARKS = ("DONE", "config.yaml", "metrics.json")  # one of them makes a folder a run's
_NO_RUNS = ("checkpoints", "pictures", "images", ".hydra", "wandb")
_HEAD_STAGES = ("occlusion", "ranking")  # they have no panoptic quality
_SECTIONS = ("model", "fusion", "data", "optimizer", "schedule", "weights")
_DATA_PLACES = ("root", "num_workers", "cache_dir", "occlusion_pairs")
_DATA_CONTENT = ("val_split", "val_image_ids")
_TOY_CONTENT = ("seed", "num_val", "height_px", "width_px", "crowded", "version")


def read_runs(paths: Sequence[Path]) -> tuple[pd.DataFrame, list[str]]:
    """Every run in some folders, in their order, and a line for each folder that cannot be read.

    Args:
        paths: Folders of runs, or folders in which runs lie.
    """
    records: dict[Path, dict[str, Any] | None] = {}
    problems: list[str] = []
    for path in paths:
        folders = list(_find_run_folders(path))
        if not folders:
            what = "no run in it" if path.is_dir() else "no such folder"
            problems.append(f"{path}: {what}; name the folder of a run, or one in which runs lie")
        for folder in folders:
            try:
                records.setdefault(folder.resolve(), _read_folder(folder))
            except RefineError as error:
                problems.append(str(error))
    return _to_frame(filter(None, records.values())), list(dict.fromkeys(problems))


def _find_run_folders(path: Path) -> Iterator[Path]:
    """The folder itself and those below it that a run has written into, in order of their names.

    Links are followed: a study may lie in several places.
    """
    seen: set[str] = set()  # a link may lead back
    for folder, subfolders, files in os.walk(path, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:
            subfolders.clear()
            continue
        seen.add(place)
        subfolders[:] = sorted(name for name in subfolders if name not in _NO_RUNS)
        if any(mark in files for mark in _MARKS):
            yield Path(folder)


def from_wandb(runs: Iterable[Any], project: str) -> tuple[pd.DataFrame, list[str]]:
    """Runs of a project (``ENTITY/PROJECT``) on Weights & Biases, as :func:`read_runs`.

    Per-image counts stay on the machine that ran, so there are no intervals.

    Args:
        runs: ``wandb.Api().runs(project)``; ``name``, ``id``, ``state``, ``config`` and
            ``summary`` are read.
        project: Its name.
    """
    states = {"finished": "finished", **dict.fromkeys(("failed", "crashed", "killed"), "failed")}
    records, problems = [], []
    for run in runs:
        name, config = f"{project}/{run.id} ({run.name})", dict(run.config)
        if not all(isinstance(config.get(key), Mapping) for key in ("model", "fusion")):
            problems.append(f"{name}: its configuration names no network and fusion; left out")
        elif config.get("stage") not in _HEAD_STAGES:
            summary = {k: v for k, v in dict(run.summary).items() if isinstance(v, int | float)}
            metrics = {k[4:]: v for k, v in summary.items() if k.startswith("val/")}
            metrics |= {k: v for k, v in summary.items() if "/" not in k}  # before any validation's
            state, reason = states.get(run.state, "unfinished"), f"{run.state} on Weights & Biases"
            if state == "finished":
                state, reason = ("finished", "") if "pq" in metrics else ("unfinished", "no pq")
            found = metrics if state == "finished" else {}
            records.append(_to_record(name, config, found, state=state, reason=reason))
    return _to_frame(records), problems


def settings_columns(runs: pd.DataFrame) -> list[str]:
    """The columns of everything but the seed that a run's result is a function of."""
    return [n for n in map(str, runs) if n.partition(".")[0] in ("kind", *_SECTIONS)]


def on_dataset(runs: pd.DataFrame, dataset: Mapping[str, Any]) -> "pd.Series[bool]":
    """Whether each run agrees with a dataset in everything that both tell."""
    known = [key for key in DATASET if not pd.isna(dataset[key])]
    theirs = runs[known]
    return (theirs.isna() | theirs.eq(pd.Series(dataset)[known])).all(axis=1)


def matches(runs: pd.DataFrame, settings: Mapping[str, Any]) -> "pd.Series[bool]":
    """Whether each run has these settings, by column; a missing one is no match."""
    return runs.reindex(columns=list(settings)).eq(pd.Series(settings, dtype=object)).all(axis=1)


def _to_frame(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    names = ["name", "state", "reason", "kind", "seed", "backbone", "is_coco", "dataset", *DATASET]
    runs = pd.DataFrame(list(records), dtype=object)
    runs = runs.reindex(columns=list(dict.fromkeys([*names, *runs.columns])))
    by_settings = runs.groupby(settings_columns(runs), sort=False, dropna=False)
    return runs.assign(configuration=by_settings.ngroup())


def _read_folder(folder: Path) -> dict[str, Any] | None:
    """None for a stage that trains heads: it has no panoptic quality."""
    config = _load_yaml(folder / "config.yaml")
    if config.get("stage") in _HEAD_STAGES:
        return None
    if not (folder / "DONE").is_file():
        return _to_record(folder, config, {}, state="unfinished", reason="no DONE")
    metrics = read_metrics(folder)
    if not isinstance(metrics.get("pq"), int | float):
        raise RefineError(f"{folder / 'metrics.json'}: no pq in it; evaluate anew")
    try:
        lines = (folder / "per_category.csv").read_text(encoding="utf-8").splitlines()
        categories = "\n".join(",".join(line.split(",")[:3]) for line in lines)
    except (OSError, UnicodeDecodeError):
        categories = None
    return _to_record(folder, config, metrics, state="finished", categories=categories)


def _to_record(
    name: Path | str,
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
    *,
    state: str,
    reason: str = "",
    categories: str | None = None,
) -> dict[str, Any]:
    is_evaluation, source, seed = "predictions" in config, None, f"seed {config.get('seed')}"
    if is_evaluation:
        key = "baseline_predictions" if config.get("from_baseline") else "predictions"
        value = config.get(key) or config.get("ckpt_path")
        source = None if value is None else Path(str(value))
        recorded = {} if source is None else _read_source(source)
        known = recorded.pop("seed", None)
        seed, config = str(source) if known is None else f"seed {known}", {**config, **recorded}
    is_cache = source is not None and (source / "header.json").is_file()
    return {
        **metrics,
        **_read_settings(config),
        **_describe_dataset(config.get("data") or {}, metrics.get("num_images")),
        "categories": categories,
        "name": str(name),
        "folder": name if isinstance(name, Path) else None,
        "state": state,
        "reason": reason,
        "config": config,
        "kind": "evaluation" if is_evaluation else "training",
        "seed": seed,
        "cache": source if is_cache else None,
    }


def _read_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    sections = {key: config[key] for key in _SECTIONS if config.get(key) is not None}
    data = {k: v for k, v in (config.get("data") or {}).items() if k not in _DATA_PLACES}
    flat = flatten({**sections, "data": data})
    own = {
        key: value if isinstance(value, str | int | float) else json.dumps(value)
        for key, value in flat.items()
    }
    backbone = str(flat.get("model.backbone.name")).partition("_")[0]
    backbone += "-dcn" if flat.get("model.backbone.dcn_stages") else ""
    head = str(flat.get("fusion.relations.head"))
    inputs = read_content()["heads"].get(head)
    trained = ((config.get("occlusion") or {}).get("heads") or {}).get(head)
    if trained is not None:
        used = ("feature", "label", "mask")
        inputs = "+".join(name for name in used if trained.get(f"use_{name}", True))
    return {**own, "backbone": backbone, "head_inputs": inputs}


def _describe_dataset(data: Mapping[str, Any], num_images: float | None) -> dict[str, Any]:
    toy = data.get("toy")
    if toy:
        known = asdict(ToyOptions()) | dict(toy)  # older runs lack the younger keys
        name, content = "toy scenes", {key: known[key] for key in _TOY_CONTENT}
    else:
        name, content = str(data.get("val_split")), {key: data.get(key) for key in _DATA_CONTENT}
    return {
        "split": f"{name}|{json.dumps(content)}",
        "is_coco": not toy and name == "val2017" and data.get("val_image_ids") is None,
        "num_images": None if num_images is None else int(num_images),
        "dataset": name if num_images is None else f"{name}, {int(num_images)} images",
    }


def _read_source(source: Path) -> dict[str, Any]:
    """``model``, ``data`` and ``seed`` of a cache or a checkpoint; nothing if its files are gone.

    A checkpoint lies in ``RUN/checkpoints/``, and that run's configuration tells the network.
    """
    try:
        if source.suffix == ".ckpt":
            content = _load_yaml(source.parent.parent / "config.yaml")
        else:
            checkpoint = json.loads((source / "header.json").read_text())["checkpoint"]
            content = {**checkpoint["config"], "seed": checkpoint.get("seed")}
        return {"model": content["model"], "data": content["data"], "seed": content.get("seed")}
    except (OSError, ValueError, KeyError, TypeError, RefineError):
        return {}


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
