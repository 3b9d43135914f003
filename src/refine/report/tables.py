"""The paper's tables with our own figures beside the printed ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from refine.config.flatten import flatten
from refine.errors import RefineError
from refine.options import FusionOptions
from refine.report.bootstrap import NUM_RESAMPLES, Interval, Resampled, compute_intervals, resample
from refine.report.collect import DATASET, matches, on_dataset, settings_columns
from refine.report.finished_run import read_run
from refine.report.paper import PaperRow, PaperTable, load_tables

COCO_IMAGES = 5000
"""Number of images of val2017, which the paper's values are of."""

_HELD_EQUAL = r"^(schedule|optimizer|fusion\.merge|data\.image)\.|^data\.batch_size$"
_SHARED = ("model.", "fusion.", "data.")  # what trainings and evaluations both record
_CACHE_TOLERANCE = 5e-4
"""Difference between the PQ of a compact prediction cache and that of its network
(docs/results.md)."""


class Figure(NamedTuple):
    """One quantity of the runs of a row; fractions, or images per second.

    Attributes:
        mean: Mean over the seeds.
        std: Standard deviation over the seeds; None of one alone.
        interval: Interval of the mean, bootstrapped over images; None if it cannot be had.
    """

    mean: float
    std: float | None
    interval: Interval | None


@dataclass(slots=True)
class Row:
    """A row of the paper with our runs.

    Attributes:
        paper: What is printed.
        runs: The runs that count, one per seed, as :mod:`refine.report.collect` has them.
        notes: Why other runs do not count.
        figures: Figures by metric key; empty if nothing was run.
        difference: Difference of the table's first column to its reference row, over the seeds that
            both have, paired by image; None where there is nothing to compare.
        added: The same to the row that this one is one part more than.
    """

    paper: PaperRow
    runs: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
    difference: Interval | None = None
    added: Interval | None = None


class Table(NamedTuple):
    """A table of the paper with our runs.

    Attributes:
        paper: What is printed.
        title: Title, with the dataset's name if it is not the paper's.
        caption: What is to be known before reading it.
        rows: Rows as printed, without rows that this dataset cannot have.
        warnings: Settings in which the rows differ beyond what the table compares.
    """

    paper: PaperTable
    title: str
    caption: str
    rows: Sequence[Row]
    warnings: Sequence[str]


def choose_dataset(runs: pd.DataFrame, wanted: str | None = None) -> Mapping[str, Any] | None:
    """The dataset that tables are made for: that of most finished runs, of equal ones the first.

    ``wanted``, a part of a dataset's label, decides instead.

    Returns:
        Columns of :mod:`refine.report.collect`; None if no run has finished.

    Raises:
        RefineError: No dataset has such a label.
    """
    finished = runs[runs["state"] == "finished"]
    if wanted is not None:
        labels = "; ".join(dict.fromkeys(finished["dataset"])) or "none"
        finished = finished[[wanted in label for label in finished["dataset"]]]
        if finished.empty:
            raise RefineError(f"no finished run on a dataset named {wanted!r}; there is: {labels}")
    if finished.empty:
        return None
    sizes = finished.groupby(DATASET, sort=False, dropna=False)["name"].transform("size")
    return dict(finished[sizes == sizes.max()].iloc[0][["dataset", "is_coco", *DATASET]])


def build_tables(
    runs: pd.DataFrame,
    dataset: Mapping[str, Any] | None,
    *,
    numbers: Sequence[int] | None = None,
    num_resamples: int = NUM_RESAMPLES,
) -> list[Table]:
    """The tables of one dataset.

    Runs of other datasets, unfinished and failed ones are named in the notes of the row they would
    belong to, and count nowhere. Without a dataset there are no figures of ours, without resamples
    of the bootstrap no intervals. All tables by default; other datasets than COCO have 3 to 6.
    """
    builder = _Builder(runs, dataset, num_resamples)
    return [
        builder.build(paper)
        for number, paper in load_tables().items()
        if (numbers is None or number in numbers)
        and (builder.is_coco or paper.backbone is not None)
    ]


class _Builder:
    """Resamples every run once, however many rows it stands in."""

    def __init__(
        self, runs: pd.DataFrame, dataset: Mapping[str, Any] | None, num_resamples: int
    ) -> None:
        self.runs, self.dataset, self.num_resamples = runs, dataset, num_resamples
        self.is_coco = dataset is None or bool(dataset["is_coco"])
        self._resampled: dict[str, Resampled] = {}

    def build(self, paper: PaperTable) -> Table:
        rows = {
            row.label: self._build_row(paper, row)
            for row in paper.rows
            if self.is_coco or (row.settings is not None and row.backbone == paper.backbone)
        }
        for row in rows.values():
            row.difference = self._compare(row, rows.get(paper.reference), paper.columns[0])
            before = rows.get(row.paper.adds_to or "")
            while before is not None and before.runs.empty:  # a control that nobody has run
                before = rows.get(before.paper.adds_to or "")
            row.added = self._compare(row, before, paper.columns[0])
        title, caption = _describe(paper, self.dataset)
        return Table(paper, title, caption, [*rows.values()], _find_differences(rows))

    def _build_row(self, table: PaperTable, paper: PaperRow) -> Row:
        if paper.settings is None:
            return Row(paper, self.runs[:0])
        belongs = matches(self.runs, paper.settings)
        is_other = ~self.runs["is_coco"].astype(bool)  # where any backbone will do
        candidates = self.runs[belongs & (is_other | (self.runs["backbone"] == paper.backbone))]
        row = Row(paper, candidates)
        if self.dataset is not None:
            is_here = on_dataset(candidates, self.dataset)
            row.runs = candidates[is_here]
            for label, number in candidates[~is_here].groupby("dataset", sort=False).size().items():
                row.notes.append(f"{_count(number)} on another dataset ({label}) left out")
        _choose(row, is_of_fusion=table.is_of_fusion)
        intervals = self._compute(row, "no interval", row.runs, row.runs[:0])
        for key in table.columns if len(row.runs) else ():
            values = row.runs.get(key, pd.Series([math.nan])).astype(float)
            if values.notna().all():
                std = float(values.std()) if len(values) > 1 else None
                row.figures[key] = Figure(values.mean(), std, intervals.get(key))
        return row

    def _compare(self, row: Row, other: Row | None, key: str) -> Interval | None:
        if other is None or row is other or other.runs.empty:
            return None
        common = set(row.runs["seed"]) & set(other.runs["seed"])
        pair = [r[r["seed"].isin(common)] if common else r for r in (row.runs, other.runs)]
        return self._compute(row, "no difference", *pair).get(key)

    def _compute(
        self, row: Row, failure: str, runs: pd.DataFrame, minus: pd.DataFrame
    ) -> dict[str, Interval]:
        """Empty, and why in the row's notes, if the counts are not at hand or not comparable."""
        if runs.empty or not self.num_resamples:
            return {}
        try:
            return compute_intervals(self._resample(runs), minus=self._resample(minus))
        except RefineError as error:
            if not any(str(error) in note for note in row.notes):
                row.notes.append(f"{failure}: {error}")
            return {}

    def _resample(self, runs: pd.DataFrame) -> list[Resampled]:
        for name, folder in zip(runs["name"], runs["folder"], strict=True):
            if name not in self._resampled:
                if folder is None:
                    raise RefineError(f"{name}: per_image.csv is not at hand")
                run = read_run(folder)
                self._resampled[name] = resample(run, num_resamples=self.num_resamples)
        return [self._resampled[name] for name in runs["name"]]


def _choose(row: Row, *, is_of_fusion: bool) -> None:
    """Leave the finished runs of one configuration, one per seed; note why the others are none."""
    waiting = row.runs[row.runs["state"] != "finished"]
    for name, state, reason in waiting[["name", "state", "reason"]].itertuples(index=False):
        what = "failed" if state == "failed" else "has not finished"
        row.notes.append(f"{name} {what}: {reason}")
    row.runs = row.runs.drop(waiting.index)
    groups = [group for _, group in row.runs.groupby("configuration", sort=False)]
    if not groups:
        return
    defaults = flatten({"fusion": asdict(FusionOptions())})

    def rank(group: pd.DataFrame) -> tuple[bool, int, bool, int]:
        """Most seeds first, then trainings before evaluations, then the nearest to the defaults."""
        is_evaluation = group["kind"].iloc[0] == "evaluation"
        changed = sum(group[k].iloc[0] != v for k, v in defaults.items() if k in group)
        is_late = is_of_fusion and not is_evaluation
        return is_late, -group["seed"].nunique(), is_evaluation, changed

    chosen, *others = sorted(groups, key=rank)
    row.runs = chosen.drop_duplicates("seed")
    row.notes += _explain_others(others, row.runs)
    for seed, same in chosen.groupby("seed", sort=False):
        if same["pq"].max() - same["pq"].min() > _CACHE_TOLERANCE:
            row.notes.append(f"{len(same)} runs of {seed}: {same['name'].iloc[0]} counts")


def _explain_others(groups: Sequence[pd.DataFrame], chosen: pd.DataFrame) -> list[str]:
    """In what those that do not count differ: a line for each setting.

    Evaluations that only repeat what a chosen training found itself, or the reverse, are not named.
    """
    columns = settings_columns(chosen)
    ours, by_seed = chosen[columns].iloc[0].fillna("absent"), chosen.set_index("seed")["pq"]
    found: dict[str, list[tuple[str, int]]] = {}
    for group in groups:
        theirs = group[columns].iloc[0].fillna("absent")
        different = ours.index[theirs != ours]
        number = len(group)
        if "kind" in different and not any(c.startswith(_SHARED) for c in different):
            gaps = (group["pq"] - group["seed"].map(by_seed)).astype(float).abs()
            number -= int((gaps <= _CACHE_TOLERANCE).sum())
        if number:
            key = "kind" if "kind" in different else min(different)
            found.setdefault(key, []).append((str(theirs[key]), number))
    return [
        f"{_count(sum(number for _, number in values))} left out: "
        f"{'kind of run' if key == 'kind' else key} is "
        f"{', '.join(value for value, _ in values)}, not {ours[key]}"
        for key, values in found.items()
    ]


def _count(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"


def _describe(table: PaperTable, dataset: Mapping[str, Any] | None) -> tuple[str, str]:
    """Title and caption."""
    name = f"Table {table.number}"
    if dataset is None or (dataset["is_coco"] and dataset["num_images"] == COCO_IMAGES):
        backbone = f" ({table.backbone.upper()})" if table.backbone else ""
        caption = "COCO, as in the paper; values of quality times 100."
        return f"{name}: {table.title}{backbone}", caption
    label = str(dataset["dataset"])
    if not dataset["is_coco"]:
        name = f"Toy {name}" if label.startswith("toy ") else f"{name} on {label}"
    return (
        f"{name}: {table.title}",
        f"Ours: {label}. The paper's values are of COCO's 5000 images and of larger networks: "
        "another dataset, so only the order of the rows compares.",
    )


def _find_differences(rows: Mapping[str, Row]) -> list[str]:
    """Settings that a fair table holds equal, and that its rows do not."""
    firsts = {label: row.runs.iloc[0] for label, row in rows.items() if len(row.runs)}
    held = pd.DataFrame(firsts).T.filter(regex=_HELD_EQUAL)
    warnings = []
    for key in sorted(held.columns[held.nunique() > 1]):
        parts = (f"{v} in {', '.join(g.index)}" for v, g in held.groupby(key, sort=False))
        warnings.append(f"rows differ in {key}: " + "; ".join(parts))
    return warnings
