"""Compare trainings that differ in a setting, paired by seed, with t-intervals over the seeds.

    python scripts/compare_seeds.py RUNS --reference model.ibpp.direction=none

Rows are the settings of the runs below RUNS, but for the seed; a row is named after what tells it
from the others. A difference is the mean over the seeds that a row and the reference share, with
the 95 % interval of Student's t: what another seed would give. It says nothing of other data.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from refine.atomic import write_text
from refine.errors import RefineError, run_script
from refine.report.collect import matches, read_runs, settings_columns

PROBE_NAME = "probe.json"
"""File of further figures in a run's folder (``scripts/probe_ibpp.py --save``)."""

_METRICS = ("pq", "pq_things", "pq_stuff")


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean of the values and half the width of its 95 % interval; NaN of a single one."""
    array = np.asarray(values, dtype=float)
    if len(array) < 2:
        return float(array.mean()), float("nan")
    error = array.std(ddof=1) / np.sqrt(len(array))
    return float(array.mean()), float(stats.t.ppf(0.975, len(array) - 1) * error)


def read_table(folders: Sequence[Path]) -> pd.DataFrame:
    """The finished trainings, with the figures of ``probe.json`` where there is one.

    Raises:
        RefineError: There is none.
    """
    runs, _ = read_runs(folders)
    runs = runs[(runs["state"] == "finished") & (runs["kind"] == "training")].copy()
    if runs.empty:
        raise RefineError(f"{folders[0]}: no finished training in it; name a folder of runs")
    paths = [folder / PROBE_NAME for folder in runs["folder"]]
    probes = [json.loads(path.read_text()) if path.is_file() else {} for path in paths]
    return pd.concat([runs, pd.DataFrame(probes, index=runs.index)], axis=1)


def name_rows(runs: pd.DataFrame) -> "pd.Series[str]":
    """Name of each run's row: the settings that are not the same in all runs."""
    settings = runs[settings_columns(runs)].astype(str)
    telling = [name for name in map(str, settings) if settings[name].nunique() > 1]
    short = {name: name.removeprefix("model.").removeprefix("ibpp.") for name in telling}
    return settings[telling].apply(
        lambda row: ", ".join(f"{short[name]}={row[name]}" for name in telling) or "all", axis=1
    )


def compare_rows(runs: pd.DataFrame, reference: dict[str, Any], keys: Sequence[str]) -> str:
    """The rows and their differences from the reference as Markdown; metrics times 100.

    Raises:
        RefineError: No run, or runs of several rows, have the reference's settings.
    """
    runs = runs.assign(row=name_rows(runs))
    chosen = runs[matches(runs, reference)]
    if chosen["row"].nunique() != 1:
        found = "; ".join(sorted(chosen["row"].unique())) or "none"
        raise RefineError(f"--reference: one row is needed, found: {found}; name more settings")
    # figures by seed, one table per row
    tables = {
        str(name): row.set_index("seed")[list(keys)].astype(float)
        for name, row in runs.groupby("row", sort=False)
    }
    (base,) = {str(name) for name in chosen["row"]}
    lines = []
    for name, table in tables.items():
        cells = {"row": name, "seeds": str(len(table))}
        shared = table.index.intersection(tables[base].index)
        for key in keys:
            scale, digits = (100, 2) if key in _METRICS else (1, 4)
            cells[key] = f"{scale * float(table[key].mean()):.{digits}f}"
            if name != base and len(shared):
                change = table.loc[shared, key] - tables[base].loc[shared, key]
                mean, half = t_interval((scale * change).tolist())
                cells[key] += f" ({mean:+.{digits}f} ± {half:.{digits}f})"
        lines.append(cells)
    return str(pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True))


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders in which runs lie")
    parser.add_argument("--reference", nargs="+", required=True, metavar="KEY=VALUE")
    parser.add_argument("--keys", nargs="+", default=_METRICS, help="metrics or probe figures")
    parser.add_argument("--out", type=Path, help="file; default: standard output")
    args = parser.parse_args(argv)

    def run() -> None:
        pairs = (entry.partition("=") for entry in args.reference)
        reference = {key: yaml.safe_load(value) for key, _, value in pairs}
        table = compare_rows(read_table(args.runs), reference, args.keys)
        if args.out is None:
            print(table)
        else:
            write_text(args.out, f"{table}\n")

    return run_script(run)


if __name__ == "__main__":
    sys.exit(main())
