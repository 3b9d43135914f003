"""The paper's tables with our own figures beside the printed ones."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from refine.config.flatten import flatten
from refine.errors import RefineError
from refine.options import FusionOptions
from refine.report.bootstrap import NUM_RESAMPLES, Interval, Resampled, compute_intervals, resample
from refine.report.collect import DATASET, matches, on_dataset, settings_columns
from refine.report.finished_run import read_run
from refine.report.paper import PaperRow, PaperTable, load_paper

COCO_IMAGES = 5000
"""Number of images of val2017, which the paper's values are of."""

NUMBERS = (1, 2, 3, 4, 5, 6)
"""Numbers of the paper's tables."""

_HELD_EQUAL = r"^(schedule|optimizer|fusion\.merge|data\.image)\.|^data\.batch_size$"
_SHARED = ("model.", "fusion.", "data.")  # what trainings and evaluations both record
_CACHE_TOLERANCE = 5e-4
"""Difference between the PQ of a compact prediction cache and that of its network
(docs/results.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One quantity of the runs of a row.

    Attributes:
        mean: Mean over the seeds; a fraction, or images per second.
        std: Standard deviation over the seeds; None of one alone.
        interval: 95 % interval of the mean, bootstrapped over images; None if it cannot be had.
    """

    mean: float
    std: float | None = None
    interval: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the paper with our runs.

    Attributes:
        paper: What is printed.
        runs: The runs that count, one per seed, as :mod:`refine.report.collect` has them.
        figures: By metric key; empty if nothing was run.
        difference: Difference of the table's first column to its reference row, over the seeds that
            both have, paired by image; None where there is nothing to compare.
        added: The same to the row that this one is one part more than.
        notes: What stands in the way of a row, run by run.
    """

    paper: PaperRow
    runs: pd.DataFrame
    figures: Mapping[str, Figure] = field(default_factory=dict)
    difference: Interval | None = None
    added: Interval | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the paper with our runs.

    Attributes:
        paper: What is printed.
        title: Title, with the dataset's name if it is not the paper's.
        caption: What is to be known before reading it.
        rows: As printed, without rows that this dataset cannot have.
        warnings: In what the rows differ beyond what the table compares.
    """

    paper: PaperTable
    title: str
    caption: str
    rows: Sequence[Row]
    warnings: Sequence[str] = ()


def choose_dataset(runs: pd.DataFrame, wanted: str | None = None) -> Mapping[str, Any] | None:
    """The dataset that tables are made for: that of most finished runs, of equal ones the first.

    Args:
        runs: All runs.
        wanted: Part of the label of a dataset; it decides instead.

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
    groups = [group for _, group in finished.groupby(DATASET, sort=False, dropna=False)]
    largest = max(groups, key=len)
    return dict(largest.iloc[0][["dataset", "is_coco", *DATASET]])


def build_tables(
    runs: pd.DataFrame,
    dataset: Mapping[str, Any] | None,
    *,
    numbers: Sequence[int] = NUMBERS,
    num_resamples: int = NUM_RESAMPLES,
) -> list[Table]:
    """The tables of one dataset.

    Args:
        runs: All runs; those of other datasets, unfinished and failed ones are named in the notes
            of the row they would belong to, and count nowhere.
        dataset: Of :func:`choose_dataset`; None makes tables without figures of ours.
        numbers: Numbers of the tables. COCO has all six, other datasets have 3 to 6.
        num_resamples: Number of resamples of the bootstrap; 0 makes no intervals.
    """
    builder = _Builder(runs, dataset, num_resamples)
    papers = [load_paper().tables[number] for number in sorted(numbers)]
    return [builder.build(p) for p in papers if builder.is_coco or p.backbone is not None]


class _Builder:
    """Resamples every run once, however many rows it stands in."""

    def __init__(
        self, runs: pd.DataFrame, dataset: Mapping[str, Any] | None, num_resamples: int
    ) -> None:
        self.runs, self.dataset, self.num_resamples = runs, dataset, num_resamples
        self.is_coco = dataset is None or bool(dataset["is_coco"])
        self._resampled: dict[str, Resampled] = {}

    def build(self, paper: PaperTable) -> Table:
        rows = [
            self._build_row(paper, row)
            for row in paper.rows
            if self.is_coco or (row.settings is not None and row.backbone == paper.backbone)
        ]
        title, caption = _describe(paper, self.dataset)
        key, by_label = paper.columns[0], {row.paper.label: row for row in rows}
        compared = []
        for row in rows:
            notes = list(row.notes)
            difference, added = (
                self._compare(row, by_label.get(other or ""), key, notes)
                for other in (paper.reference, row.paper.adds_to)
            )
            compared.append(replace(row, difference=difference, added=added, notes=notes))
        warnings = _find_differences(rows)
        return Table(paper=paper, title=title, caption=caption, rows=compared, warnings=warnings)

    def _build_row(self, table: PaperTable, paper: PaperRow) -> Row:
        if paper.settings is None:
            return Row(paper=paper, runs=self.runs[:0])
        belongs = matches(self.runs, paper.settings)
        is_other = ~self.runs["is_coco"].astype(bool)  # where any backbone will do
        belongs &= is_other | matches(self.runs, {"backbone": paper.backbone})
        here, notes = self._on_this_dataset(self.runs[belongs])
        chosen, more = _choose(here, is_of_fusion=table.is_of_fusion)
        notes += more
        intervals: Mapping[str, Interval] = {}
        if len(chosen) and self.num_resamples:
            try:
                intervals = compute_intervals(self._resample(chosen))
            except RefineError as error:
                notes.append(f"no interval: {error}")
        keys = [k for k in table.columns if len(chosen) and k in chosen and chosen[k].notna().all()]
        return Row(
            paper=paper,
            runs=chosen,
            figures={
                key: Figure(
                    mean=float(chosen[key].astype(float).mean()),
                    std=float(chosen[key].astype(float).std()) if len(chosen) > 1 else None,
                    interval=intervals.get(key),
                )
                for key in keys
            },
            notes=notes,
        )

    def _on_this_dataset(self, candidates: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
        if self.dataset is None:
            return candidates, []
        is_here = on_dataset(candidates, self.dataset)
        counts = candidates[~is_here].groupby("dataset", sort=False).size()
        return candidates[is_here], [
            f"{_count(number)} on another dataset ({label}) left out"
            for label, number in counts.items()
        ]

    def _compare(self, row: Row, other: Row | None, key: str, notes: list[str]) -> Interval | None:
        """Adds to the notes if the runs are not comparable."""
        if other is None or row.paper is other.paper or not self.num_resamples:
            return None
        if row.runs.empty or other.runs.empty:
            return None
        common = set(row.runs["seed"]) & set(other.runs["seed"])
        pair = [r[r["seed"].isin(common)] if common else r for r in (row.runs, other.runs)]
        try:
            return compute_intervals(self._resample(pair[0]), minus=self._resample(pair[1]))[key]
        except RefineError as error:
            if not any(str(error) in note for note in notes):
                notes.append(f"no difference: {error}")
            return None

    def _resample(self, runs: pd.DataFrame) -> list[Resampled]:
        for name, folder in zip(runs["name"], runs["folder"], strict=True):
            if name not in self._resampled:
                if not isinstance(folder, Path):
                    raise RefineError(f"{name}: per_image.csv is not at hand")
                drawn = resample(read_run(folder), num_resamples=self.num_resamples)
                self._resampled[name] = drawn
        return [self._resampled[name] for name in runs["name"]]


def _choose(runs: pd.DataFrame, *, is_of_fusion: bool) -> tuple[pd.DataFrame, list[str]]:
    """The finished runs of one configuration, one per seed, and why the others do not count."""
    states = {"failed": "failed", "unfinished": "has not finished"}
    waiting = runs[runs["state"] != "finished"]
    notes = [
        f"{name} {states[state]}: {reason}"
        for name, state, reason in zip(
            waiting["name"], waiting["state"], waiting["reason"], strict=True
        )
    ]
    finished = runs[runs["state"] == "finished"]
    groups = [group for _, group in finished.groupby("configuration", sort=False)]
    if not groups:
        return finished, notes

    def rank(group: pd.DataFrame) -> tuple[bool, int, bool, int]:
        """Most seeds first, then trainings before evaluations, then the nearest to the defaults."""
        is_evaluation = group["kind"].iloc[0] == "evaluation"
        changed = sum(group[k].iloc[0] != v for k, v in _fusion_defaults().items() if k in group)
        is_late = is_of_fusion and not is_evaluation
        return is_late, -group["seed"].nunique(), is_evaluation, changed

    chosen, *others = sorted(groups, key=rank)
    notes += _explain_others(_leave_repeated(others, chosen), chosen)
    for seed, same in chosen.groupby("seed", sort=False):
        if same["pq"].max() - same["pq"].min() > _CACHE_TOLERANCE:
            notes.append(f"{len(same)} runs of {seed}: {same['name'].iloc[0]} counts")
    return chosen.drop_duplicates("seed"), notes


def _fusion_defaults() -> dict[str, Any]:
    return flatten({"fusion": asdict(FusionOptions())})


def _leave_repeated(groups: Sequence[pd.DataFrame], chosen: pd.DataFrame) -> list[pd.DataFrame]:
    """Without evaluations that only repeat what a chosen training found itself, or the reverse."""
    first = chosen.drop_duplicates("seed").set_index("seed")
    left = []
    for group in groups:
        ours = first.reindex(group["seed"]).set_index(group.index)
        shared = [c for c in settings_columns(group) if c.startswith(_SHARED)]
        is_same = (
            ours[shared].eq(group[shared]) | (ours[shared].isna() & group[shared].isna())
        ).all(axis=1)
        is_same &= (ours["kind"] != group["kind"]) & ours["kind"].notna()
        is_same &= (ours["pq"].astype(float) - group["pq"].astype(float)).abs() <= _CACHE_TOLERANCE
        left.append(group[~is_same])
    return [group for group in left if len(group)]


def _explain_others(groups: Sequence[pd.DataFrame], chosen: pd.DataFrame) -> list[str]:
    """In what those that do not count differ: a line for each setting."""
    columns = settings_columns(chosen)
    ours = chosen[columns].iloc[0].fillna("absent")
    values: dict[str, list[str]] = {}
    numbers: dict[str, int] = {}
    for group in groups:
        theirs = group[columns].iloc[0].fillna("absent")
        key = min(ours.index[theirs != ours], key=lambda k: (k != "kind", k))
        values.setdefault(key, []).append(str(theirs[key]))
        numbers[key] = numbers.get(key, 0) + len(group)
    return [
        f"{_count(numbers[key])} left out: {'kind of run' if key == 'kind' else key} is "
        f"{', '.join(theirs)}, not {ours[key]}"
        for key, theirs in values.items()
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


def _find_differences(rows: Sequence[Row]) -> list[str]:
    """Settings that a fair table holds equal, and that its rows do not."""
    firsts = {row.paper.label: row.runs.iloc[0] for row in rows if len(row.runs)}
    held = pd.DataFrame(firsts).T.filter(regex=_HELD_EQUAL)
    warnings = []
    for key in sorted(held.columns[held.nunique() > 1]):
        parts = (f"{v} in {', '.join(g.index)}" for v, g in held.groupby(key, sort=False))
        warnings.append(f"rows differ in {key}: " + "; ".join(parts))
    return warnings
