"""The table of a study: every seed, means with standard errors, and paired differences."""

import math
from collections.abc import Sequence

from refine.report.bootstrap import mean_and_standard_error
from refine.report.runs import read_metrics
from refine.report.study import Outcome, read_seconds

_COLUMNS = {
    "pq": "PQ",
    "pq_things": "PQ things",
    "pq_stuff": "PQ stuff",
    "consensus_gap": "consensus gap",
}
_NOTHING = "—"

Values = dict[str, float]
"""Figures of one run by key; those it does not have are absent."""


def to_markdown(outcomes: Sequence[Outcome], *, reference: str) -> str:
    """The study in Markdown; PQ and the consensus gap times 100.

    Args:
        outcomes: Of :func:`refine.report.study.run_study`.
        reference: Experiment that the others are compared with; left out if it is not there.

    Raises:
        RefineError: The results of a finished run cannot be read.
    """
    values: dict[str, dict[int, Values]] = {}
    for outcome in outcomes:
        seeds = values.setdefault(outcome.job.experiment, {})
        if outcome.error is None:
            seeds[outcome.job.seed] = _read_values(outcome)
    lines = [*_seed_table(outcomes, values), "", *_mean_table(values)]
    if len(values) > 1 and values.get(reference):
        lines += ["", *_difference_table(values, reference)]
    failures = [f"- {o.job.name} failed: {o.error}" for o in outcomes if o.error is not None]
    return "\n".join([*lines, *([""] if failures else []), *failures]) + "\n"


def _read_values(outcome: Outcome) -> Values:
    metrics = read_metrics(outcome.job.run_dir)
    values = {key: 100 * metrics[key] for key in _COLUMNS if key in metrics}
    seconds = read_seconds(outcome.job)
    return values if seconds is None else values | {"minutes": seconds / 60}


def _seed_table(outcomes: Sequence[Outcome], values: dict[str, dict[int, Values]]) -> list[str]:
    rows = []
    for experiment, of_seed in values.items():
        for seed in (o.job.seed for o in outcomes if o.job.experiment == experiment):
            own = of_seed.get(seed)
            keys = [*_COLUMNS, "minutes"]
            cells = ["failed"] * len(keys) if own is None else [_cell(own, key) for key in keys]
            rows.append([experiment, str(seed), *cells])
    return _table(["experiment", "seed", *_COLUMNS.values(), "minutes"], rows)


def _mean_table(values: dict[str, dict[int, Values]]) -> list[str]:
    rows = [
        [experiment, str(len(of_seed)), *_means([*of_seed.values()], "{:.2f}")]
        for experiment, of_seed in values.items()
    ]
    return [
        "Mean ± standard error over the finished seeds:",
        "",
        *_table(["experiment", "seeds", *_COLUMNS.values()], rows),
    ]


def _difference_table(values: dict[str, dict[int, Values]], reference: str) -> list[str]:
    rows = []
    for experiment, of_seed in values.items():
        if experiment == reference:
            continue
        common = [seed for seed in of_seed if seed in values[reference]]
        pairs = [(of_seed[seed], values[reference][seed]) for seed in common]
        differences = [{k: a[k] - b[k] for k in a.keys() & b.keys()} for a, b in pairs]
        rows.append([experiment, str(len(common)), *_means(differences, "{:+.2f}")])
    return [
        f"Difference to {reference}, paired by seed, mean ± standard error:",
        "",
        *_table(["experiment", "seeds", *_COLUMNS.values()], rows),
    ]


def _means(runs: Sequence[Values], form: str) -> list[str]:
    """A cell a column; a figure that some run lacks has no mean."""
    cells = []
    for key in _COLUMNS:
        if not runs or any(key not in run for run in runs):
            cells.append(_NOTHING)
            continue
        mean, error = mean_and_standard_error([run[key] for run in runs])
        spread = _NOTHING if math.isnan(error) else f"{error:.2f}"
        cells.append(f"{form.format(mean)} ± {spread}")
    return cells


def _cell(values: Values, key: str) -> str:
    return f"{values[key]:.1f}" if key in values else _NOTHING


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    return [
        "| "
        + " | ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        + " |"
        for row in (header, rule, *rows)
    ]
