"""How quality moves with one knob: points gathered from the runs of a sweep."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine.report.entries import Dataset, Entry, group_by
from refine.report.rows import Settings

ITERATIONS_NAME = "iterations.json"
"""What ``scripts/evaluate_iterations.py --save`` leaves beside a run's results: the metrics of
iterations 0 to T of one network."""

_ITERATIONS_KEYS = ("model.ibpp.num_iterations", "model.roi.cascade", "model.semantic.channels")


@dataclass(frozen=True, slots=True)
class Point:
    """One value of the knob.

    Attributes:
        x: Value of the knob.
        y: Mean over the runs; a fraction.
        std: Standard deviation over the runs; None of one alone.
    """

    x: float
    y: float
    std: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """Runs that differ in nothing but the knob and the seed.

    Attributes:
        label: What tells the series from the others.
        points: Ascending in x, at least two.
    """

    label: str
    points: Sequence[Point]


def sigma_series(entries: Sequence[Entry], dataset: Dataset | None, *, metric: str) -> list[Series]:
    """Soft occlusion over sigma."""
    return _sweep(
        _of_dataset(entries, dataset),
        lambda s: s.relation == "soft_occlusion",
        keys=("fusion.relations.sigma",),
        metric=metric,
    )


def erasing_series(
    entries: Sequence[Entry], dataset: Dataset | None, *, metric: str
) -> list[Series]:
    """Unknown Erasing over its threshold."""
    return _sweep(
        _of_dataset(entries, dataset),
        lambda s: s.erasing == "score",
        keys=("fusion.unknown_erasing.score_thresh",),
        metric=metric,
    )


def iteration_series(
    entries: Sequence[Entry], dataset: Dataset | None, *, metric: str
) -> list[Series]:
    """Networks trained with T iterations, over T; T = 0 is the box cascade without IBPP."""
    return _sweep(
        _of_dataset(entries, dataset),
        lambda s: (s.relation, s.erasing) == ("score", "off") and (s.iterations > 0 or s.cascade),
        keys=_ITERATIONS_KEYS,
        metric=metric,
    )


def read_iterations(folder: Path | None, *, metric: str) -> list[Series]:
    """One network after each of its iterations; nothing if that was not evaluated."""
    if folder is None:
        return []
    try:
        rows = json.loads((folder / ITERATIONS_NAME).read_text())
        points = [Point(float(t), float(row[metric])) for t, row in enumerate(rows)]
    except (OSError, ValueError, TypeError, KeyError):
        return []
    return [Series(f"after each iteration of {folder.name}", points)] if len(points) > 1 else []


def _of_dataset(entries: Sequence[Entry], dataset: Dataset | None) -> list[Entry]:
    if dataset is None:
        return []
    return [e for e in entries if e.state == "finished" and not e.dataset.contradicts(dataset)]


def _sweep(
    entries: Sequence[Entry],
    belongs: Callable[[Settings], bool],
    *,
    keys: Sequence[str],
    metric: str,
) -> list[Series]:
    chosen = [
        e for e in entries if e.settings is not None and belongs(e.settings) and metric in e.metrics
    ]
    groups = [
        group
        for group in group_by(chosen, lambda e: _identity(e, keys)).values()
        if len({e.fingerprint[keys[0]] for e in group}) > 1
    ]
    series = []
    for group in groups:
        by_value = group_by(group, lambda e: str(e.fingerprint[keys[0]]))
        points = [_to_point(runs, keys[0], metric) for runs in by_value.values()]
        others = [other[0].fingerprint for other in groups if other is not group]
        label = _describe(group[0].fingerprint, others, keys)
        series.append(Series(label, sorted(points, key=lambda p: p.x)))
    return series


def _identity(entry: Entry, keys: Sequence[str]) -> str:
    rest = {k: v for k, v in entry.fingerprint.items() if k not in keys}
    return json.dumps(rest, sort_keys=True)


def _to_point(runs: Sequence[Entry], key: str, metric: str) -> Point:
    values = [run.metrics[metric] for run in runs]
    mean = math.fsum(values) / len(values)
    x = float(runs[0].fingerprint[key])
    if len(values) == 1:
        return Point(x, mean)
    return Point(x, mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)))


def _describe(
    own: Mapping[str, Any], others: Sequence[Mapping[str, Any]], knobs: Sequence[str]
) -> str:
    """The settings that tell a series from the others."""
    different = sorted(
        key
        for key, value in own.items()
        if key not in knobs and any(other.get(key, ...) != value for other in others)
    )
    return ", ".join(f"{k.rpartition('.')[2]} {own[k]}" for k in different[:3]) or "runs"
