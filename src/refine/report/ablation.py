"""The paper's tables with our own figures beside the printed ones."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from refine.errors import RefineError
from refine.options import FusionOptions
from refine.report.bootstrap import (
    NUM_RESAMPLES,
    Interval,
    Resampled,
    difference_intervals,
    mean_intervals,
    resample,
)
from refine.report.entries import KIND, Dataset, Entry, group_by
from refine.report.paper import TABLES, PaperRow, PaperTable
from refine.report.study import flatten

COCO_IMAGES = 5000
"""Of val2017, which the paper's values are of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One quantity of the runs of a row.

    Attributes:
        mean: Over the seeds; a fraction, or images per second.
        std: Standard deviation over the seeds; None of one alone.
        interval: 95 % of the mean, bootstrapped over images; None if it cannot be had.
    """

    mean: float
    std: float | None = None
    interval: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the paper with our runs.

    Attributes:
        paper: What is printed.
        entries: The runs that count, one a seed.
        figures: By metric key; empty if nothing was run.
        difference: Of the table's first column to its reference row, over the seeds that both
            have, paired by image; None where there is nothing to compare.
        notes: What stands in the way of a row, run by run.
    """

    paper: PaperRow
    entries: Sequence[Entry] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
    difference: Interval | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the paper with our runs.

    Attributes:
        paper: What is printed.
        title: With the dataset's name, if it is not the paper's.
        caption: What is to be known before reading it.
        rows: As printed, without rows that this dataset cannot have.
        warnings: In what the rows differ beyond what the table compares.
    """

    paper: PaperTable
    title: str
    caption: str
    rows: Sequence[Row]
    warnings: Sequence[str] = ()


def choose_dataset(entries: Sequence[Entry], wanted: str | None = None) -> Dataset | None:
    """The dataset that tables are made for: that of most finished runs, of equal ones the first.

    Args:
        entries: All runs.
        wanted: Part of the label of a dataset; it decides instead.

    Returns:
        None if no run has finished.

    Raises:
        RefineError: No dataset has such a label.
    """
    counts = Counter(entry.dataset for entry in entries if entry.state == "finished")
    if wanted is not None:
        labels = [dataset.label for dataset in counts]
        counts = Counter({d: n for d, n in counts.items() if wanted in d.label})
        if not counts:
            there = "; ".join(dict.fromkeys(labels)) or "none"
            raise RefineError(f"no finished run on a dataset named {wanted!r}; there is: {there}")
    return max(counts, key=lambda dataset: counts[dataset], default=None)


def build_tables(
    entries: Sequence[Entry],
    dataset: Dataset | None,
    *,
    numbers: Sequence[int] = (1, 2, 3, 4, 5, 6),
    num_resamples: int = NUM_RESAMPLES,
) -> list[Table]:
    """The tables of one dataset.

    Args:
        entries: All runs; those of other datasets, unfinished and failed ones are named in the
            notes of the row they would belong to, and count nowhere.
        dataset: Of :func:`choose_dataset`; None makes tables without figures of ours.
        numbers: Of the tables. COCO has all six, other datasets have 3 to 6.
        num_resamples: Of the bootstrap; 0 makes no intervals.
    """
    is_coco = dataset is None or dataset.is_coco
    builder = _Builder(entries, dataset, num_resamples)
    return [
        builder.build(table)
        for table in TABLES
        if table.number in numbers and (is_coco or table.main_backbone is not None)
    ]


class _Builder:
    """Reads every run once, however many rows it stands in."""

    def __init__(
        self, entries: Sequence[Entry], dataset: Dataset | None, num_resamples: int
    ) -> None:
        self.entries = entries
        self.dataset = dataset
        self.is_coco = dataset is None or dataset.is_coco
        self.num_resamples = num_resamples
        self._resampled: dict[str, Resampled] = {}

    def build(self, table: PaperTable) -> Table:
        rows = [
            self._build_row(table, row)
            for row in table.rows
            if self.is_coco or (row.rule is not None and row.rule.backbone == table.main_backbone)
        ]
        title, caption = _describe(table, self.dataset)
        compared = self._compare(table, rows)
        warnings = _find_differences(rows)
        return Table(paper=table, title=title, caption=caption, rows=compared, warnings=warnings)

    def _build_row(self, table: PaperTable, paper: PaperRow) -> Row:
        if paper.rule is None:
            return Row(paper=paper)
        chosen, notes = self._choose(paper, is_of_fusion=table.is_of_fusion)
        figures = {
            key: _to_figure([entry.metrics[key] for entry in chosen])
            for key in table.columns
            if chosen and all(key in entry.metrics for entry in chosen)
        }
        if chosen and self.num_resamples:
            try:
                intervals = mean_intervals(self._resample(chosen))
            except RefineError as error:
                notes.append(f"no interval: {error}")
            else:
                figures |= {
                    key: Figure(mean=f.mean, std=f.std, interval=intervals.get(key))
                    for key, f in figures.items()
                }
        return Row(paper=paper, entries=chosen, figures=figures, notes=notes)

    def _choose(self, paper: PaperRow, *, is_of_fusion: bool) -> tuple[list[Entry], list[str]]:
        """The finished runs of one configuration, and why the others are not among them."""
        rule = paper.rule
        assert rule is not None
        candidates = [
            entry
            for entry in self.entries
            if entry.settings is not None
            and rule.accepts(entry.settings, any_backbone=not entry.dataset.is_coco)
        ]
        here, notes = self._on_this_dataset(candidates)
        notes += [f"{e.name} {_STATES[e.state]}: {e.reason}" for e in here if e.state != "finished"]
        finished = [entry for entry in here if entry.state == "finished"]
        groups = group_by(finished, lambda e: json.dumps(e.fingerprint, sort_keys=True))
        if not groups:
            return [], notes
        rank = _rank_evaluations if is_of_fusion else _rank
        chosen, *others = sorted(groups.values(), key=rank)
        seeds = group_by(chosen, lambda e: e.seed)
        notes += _explain_groups(_leave_repeated(others, seeds), chosen)
        notes += [
            f"{len(same)} runs of {seed}: {same[0].name} counts"
            for seed, same in seeds.items()
            if len(same) > 1 and not _agree(same)
        ]
        return [same[0] for same in seeds.values()], notes

    def _on_this_dataset(self, candidates: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
        if self.dataset is None:
            return list(candidates), []
        strangers = [e for e in candidates if e.dataset.contradicts(self.dataset)]
        here = [entry for entry in candidates if entry not in strangers]
        groups = group_by(strangers, lambda e: e.dataset.label)
        return here, [
            f"{_count(len(group))} on another dataset ({label}) left out"
            for label, group in groups.items()
        ]

    def _compare(self, table: PaperTable, rows: list[Row]) -> list[Row]:
        if table.reference >= len(rows) or not self.num_resamples:
            return rows
        reference = rows[table.reference]
        return [self._to_compared(row, reference, table.columns[0]) for row in rows]

    def _to_compared(self, row: Row, reference: Row, key: str) -> Row:
        if row is reference or not row.entries or not reference.entries:
            return row
        difference, notes = None, list(row.notes)
        try:
            both = (self._resample(part) for part in _pair_seeds(reference.entries, row.entries))
            difference = difference_intervals(*both)[key]
        except RefineError as error:
            note = f"no difference: {error}"
            notes += [] if any(str(error) in other for other in notes) else [note]
        return Row(
            paper=row.paper,
            entries=row.entries,
            figures=row.figures,
            difference=difference,
            notes=notes,
        )

    def _resample(self, entries: Sequence[Entry]) -> list[Resampled]:
        for entry in entries:
            if entry.name not in self._resampled:
                drawn = resample(entry.load(), num_resamples=self.num_resamples)
                self._resampled[entry.name] = drawn
        return [self._resampled[entry.name] for entry in entries]


_HELD_EQUAL = ("schedule.", "optimizer.", "data.batch_size", "data.image.", "fusion.merge.")
_FUSION_DEFAULTS = dict(flatten({"fusion": asdict(FusionOptions())}))
_STATES = {"failed": "failed", "unfinished": "has not finished"}


_SHARED = ("model.", "fusion.", "data.")  # what trainings and evaluations both record
_CACHE_TOLERANCE = 5e-4
"""Between the PQ of a compact prediction cache and that of its network (docs/results.md)."""


def _agree(runs: Sequence[Entry]) -> bool:
    """Whether they are one computation done several times, as sweeps that share a setting do."""
    values = [run.metrics["pq"] for run in runs]
    return max(values) - min(values) <= _CACHE_TOLERANCE


def _leave_repeated(
    groups: Sequence[Sequence[Entry]], chosen: Mapping[str, Sequence[Entry]]
) -> list[list[Entry]]:
    """Without evaluations that only repeat what a chosen training found itself, or the reverse."""
    left = ([e for e in group if not _is_repeated(e, chosen.get(e.seed))] for group in groups)
    return [group for group in left if group]


def _is_repeated(entry: Entry, chosen: Sequence[Entry] | None) -> bool:
    if not chosen or entry.is_evaluation == chosen[0].is_evaluation:
        return False
    theirs, ours = (
        {k: v for k, v in e.fingerprint.items() if k.startswith(_SHARED)}
        for e in (entry, chosen[0])
    )
    return theirs == ours and _agree([entry, chosen[0]])


def _pair_seeds(
    first: Sequence[Entry], second: Sequence[Entry]
) -> tuple[Sequence[Entry], Sequence[Entry]]:
    """The runs of seeds that both have; all of both if there are none."""
    common = {e.seed for e in first} & {e.seed for e in second}
    if not common:
        return first, second
    return [e for e in first if e.seed in common], [e for e in second if e.seed in common]


def _to_figure(values: Sequence[float]) -> Figure:
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Figure(mean=mean)
    variance = math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return Figure(mean=mean, std=math.sqrt(variance))


def _rank(group: Sequence[Entry]) -> tuple[int, bool, int]:
    """Most seeds first, then trainings before evaluations, then the nearest to the defaults."""
    given = group[0].fingerprint
    num_changed = sum(given.get(key, value) != value for key, value in _FUSION_DEFAULTS.items())
    return -len({e.seed for e in group}), group[0].is_evaluation, num_changed


def _rank_evaluations(group: Sequence[Entry]) -> tuple[bool, int, bool, int]:
    """As :func:`_rank`, but evaluations come first."""
    return not group[0].is_evaluation, *_rank(group)


def _explain_groups(groups: Sequence[Sequence[Entry]], chosen: Sequence[Entry]) -> list[str]:
    """In what those that do not count differ: a line for each setting."""
    numbers: Counter[tuple[str, str]] = Counter()
    values: dict[tuple[str, str], list[str]] = {}
    for group in groups:
        key, theirs, ours = _first_difference(group[0].fingerprint, chosen[0].fingerprint)
        numbers[key, ours] += len(group)
        values.setdefault((key, ours), []).append(theirs)
    return [
        f"{_count(number)} left out: {key} is {', '.join(values[key, ours])}, not {ours}"
        for (key, ours), number in numbers.items()
    ]


def _first_difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> tuple[str, str, str]:
    """Key and both values; what kind of run it is before its settings."""
    keys = [k for k in ours.keys() | theirs.keys() if ours.get(k, ...) != theirs.get(k, ...)]
    key = min(keys, key=lambda k: (k != KIND, k))
    return key, str(theirs.get(key, "absent")), str(ours.get(key, "absent"))


def _count(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"


def _describe(table: PaperTable, dataset: Dataset | None) -> tuple[str, str]:
    """Title and caption."""
    name = f"Table {table.number}"
    backbone = table.main_backbone.upper() if table.main_backbone else ""
    if dataset is None or (dataset.is_coco and dataset.num_images == COCO_IMAGES):
        caption = "COCO, as in the paper; values of quality times 100."
        return f"{name}: {table.title}{f' ({backbone})' if backbone else ''}", caption
    if not dataset.is_coco:
        prefix = "Toy " if dataset.split.startswith("toy ") else ""
        name = f"{prefix}{name}" if prefix else f"{name} on {dataset.label}"
    return (
        f"{name}: {table.title}",
        f"Ours: {dataset.label}. The paper's values are of COCO's 5000 images and of larger "
        "networks: another dataset, so only the order of the rows compares.",
    )


def _find_differences(rows: Sequence[Row]) -> list[str]:
    """Settings that a fair table holds equal, and that its rows do not."""
    values: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for key, value in row.entries[0].fingerprint.items() if row.entries else ():
            if key.startswith(_HELD_EQUAL):
                values.setdefault(key, {}).setdefault(str(value), []).append(row.paper.label)
    return [
        f"rows differ in {key}: "
        + "; ".join(f"{value} in {', '.join(labels)}" for value, labels in of_value.items())
        for key, of_value in sorted(values.items())
        if len(of_value) > 1
    ]
