"""How quality changes with one setting: points of the runs of a sweep, and charts of them."""

import io
import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from refine.report.collect import matches, on_dataset, settings_columns
from refine.report.finished_run import ITERATIONS_NAME
from refine.report.paper import read_content

MAX_SERIES = 6
"""Number of series that a chart draws; the style sheet has as many colours."""

_PAGE_COLORS = {f"#10000{k}": f"var(--c{k})" for k in range(MAX_SERIES)}
_PAGE_COLORS |= {"#100008": "var(--line)", "#100009": "var(--faint)"}
"""What matplotlib draws with, and what the page's style sheet, light or dark, makes of it."""


class Chart(NamedTuple):
    """What a chart shows.

    Attributes:
        title: Heading.
        x_name: Name of the setting.
        y_name: Name of the quantity.
        series: Data by label, each with columns ``x``, ``mean`` and ``std`` (NaN of one run alone),
            ascending in x, at least two points; fractions.
    """

    title: str
    x_name: str
    y_name: str
    series: Mapping[str, pd.DataFrame]


_SOFT = {"fusion.relations.kind": "soft_occlusion"}
_ERASED = {"fusion.unknown_erasing.mode": "score"}
_PLAIN = {"fusion.relations.kind": "score", "fusion.unknown_erasing.mode": "off"}
_T = "model.ibpp.num_iterations"
_THRESH = "fusion.unknown_erasing.score_thresh"
_SWEEPS = (
    ("Soft occlusion", "sigma", "fusion.relations.sigma", _SOFT, ("pq_things",)),
    ("Unknown Erasing", "threshold", _THRESH, _ERASED, ("pq_stuff", "pq")),
    ("Trained with T iterations", "T", _T, _PLAIN, ("pq", "consensus_gap")),
)
"""Title, name of the setting, its key, what its runs have in common, and the quantities."""
_TIED = {_T: ("model.roi.cascade", "model.semantic.channels")}  # a baseline differs in these, too


def list_charts(
    runs: pd.DataFrame, dataset: Mapping[str, Any] | None, folder: Path | None
) -> Iterator[Chart]:
    """Quality over sigma, over the threshold of Unknown Erasing, and over the iterations.

    Runs of the dataset count, without one none; the single iterations, if they were evaluated, are
    those of the run in ``folder``.
    """
    names = read_content()["columns"]
    runs = runs[runs["state"] == "finished"]
    runs = runs[:0] if dataset is None else runs[on_dataset(runs, dataset)]
    for title, name, key, common, metrics in _SWEEPS:
        for metric in metrics:
            series = _gather_series(runs[matches(runs, common)], key, metric)
            if series:
                yield Chart(title, name, names[metric], series)
    for metric in ("pq", "consensus_gap"):
        series = {} if folder is None else _read_iterations(folder, metric)
        if series:
            yield Chart("One network, after each iteration", "iteration", names[metric], series)


def _gather_series(runs: pd.DataFrame, key: str, metric: str) -> dict[str, pd.DataFrame]:
    """Series of runs that differ in nothing but one setting and the seed.

    Their labels tell what else the series differ in.
    """
    if key not in runs or metric not in runs:
        return {}
    rest = [c for c in settings_columns(runs) if c not in (key, *_TIED.get(key, ()))]
    runs = runs[runs[metric].notna() & runs[key].notna()]
    if key == _T:  # T = 0 is the box cascade without IBPP
        runs = runs[(runs[_T] > 0) | runs["model.roi.cascade"].eq(True)]
    groups = [
        group.astype({key: float, metric: float})
        for _, group in runs.groupby(rest, sort=False, dropna=False)
        if group[key].nunique() > 1
    ]
    firsts = pd.DataFrame([group[rest].iloc[0].fillna("absent") for group in groups])
    different = [c for c in sorted(rest) if len(groups) and firsts[c].nunique() > 1][:3]
    series = {}
    for group, (_, first) in zip(groups, firsts.iterrows(), strict=True):
        label = ", ".join(f"{c.rpartition('.')[2]} {first[c]}" for c in different) or "runs"
        points = group.groupby(key)[metric].agg(["mean", "std"])
        series[label] = points.rename_axis("x").reset_index()
    return series


def _read_iterations(folder: Path, metric: str) -> dict[str, pd.DataFrame]:
    """One network after each of its iterations; nothing if that was not evaluated."""
    try:
        values = [float(row[metric]) for row in json.loads((folder / ITERATIONS_NAME).read_text())]
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    points = pd.DataFrame({"x": range(len(values)), "mean": values, "std": float("nan")})
    return {f"after each iteration of {folder.name}": points} if len(values) > 1 else {}


def draw_svg(chart: Chart, *, prefix: str) -> str:
    """At most :data:`MAX_SERIES` series, times 100, as an SVG element in the page's colours.

    ``prefix`` is the beginning of its ids, unique on the page.
    """
    with as_file(files("refine.report") / "templates" / "chart.mplstyle") as style:
        context = mpl.rc_context(fname=str(style))
    with context:
        figure = Figure(layout="constrained")
        axes = figure.add_subplot()
        for number, points in enumerate(list(chart.series.values())[:MAX_SERIES]):
            bars, color = 100 * points["std"].fillna(0), f"#10000{number}"
            axes.errorbar(points["x"], 100 * points["mean"], bars, color=color, marker="o")
        values = sorted({x for points in chart.series.values() for x in points["x"]})
        if chart.x_name == "sigma":
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
        elif len(values) <= MAX_SERIES:
            axes.set_xticks(values, [f"{x:g}" for x in values])
        axes.set_xlabel(chart.x_name)
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None})
    text = target.getvalue().partition("<svg")[2]
    text = re.sub(r"<metadata>.*?</metadata>", "", f"<svg{text}", flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", text)
    for drawn, shown in _PAGE_COLORS.items():
        text = text.replace(drawn, shown)
    return text
