"""The parts of the report."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from refine.report.ablation import Figure, Row, Table
from refine.report.curves import (
    erasing_series,
    iteration_series,
    read_iterations,
    sigma_series,
)
from refine.report.entries import Dataset, Entry
from refine.report.html.charts import Chart, draw_chart
from refine.report.html.elements import Cell, Section, bullets, paragraph, sortable_table
from refine.report.runs import Run
from refine.report.table_text import LEGEND, describe_notes, to_cells

if TYPE_CHECKING:  # importing it imports torch, which only caches need
    from refine.report.pair_decisions import PairDecisions

_RUN_COLUMNS = {
    "pq": "PQ",
    "pq_things": "PQ things",
    "pq_stuff": "PQ stuff",
    "ap_box": "AP box",
    "ap_mask": "AP mask",
    "consensus_gap": "consensus gap",
}
_CURVES = (
    ("Soft occlusion", "sigma", "pq_things"),
    ("Unknown Erasing", "threshold", "pq_stuff"),
    ("Unknown Erasing", "threshold", "pq"),
    ("Trained with T iterations", "T", "pq"),
    ("Trained with T iterations", "T", "consensus_gap"),
    ("One network, after each iteration", "iteration", "pq"),
    ("One network, after each iteration", "iteration", "consensus_gap"),
)
"""Title, knob and quantity."""

_BAR_WIDTH, _BAR_HEIGHT = 144, 14


def tables_section(tables: Sequence[Table]) -> Section:
    """The paper's tables with our figures."""
    captions = dict.fromkeys(table.caption for table in tables)
    blocks = [paragraph(text, kind="faint") for text in (*captions, LEGEND)]
    for table in tables:
        header, texts = to_cells(table)
        rows = [_to_cells(table, row, cells) for row, cells in zip(table.rows, texts, strict=True)]
        blocks += [
            f"<h3>{escape(table.title)}</h3>",
            sortable_table(table.title, header, rows),
            bullets(describe_notes(table)),
        ]
    return Section("tables", "Tables", "".join(blocks))


def _to_cells(table: Table, row: Row, texts: Sequence[str]) -> list[Cell]:
    """Own figures sort by their mean, and their intervals stand on a second line."""
    orders: list[float | str | None] = [""] * len(texts)
    for place, key in enumerate(table.paper.columns):
        orders[2 * place + 2] = _mean(row.figures.get(key))
    return [
        Cell(text, order, _on_two_lines(text)) for text, order in zip(texts, orders, strict=True)
    ]


def _on_two_lines(text: str) -> str:
    value, bracket, interval = text.partition(" [")
    return f"{escape(value)}<br><small>[{escape(interval)}</small>" if bracket else ""


def _mean(figure: Figure | None) -> float | None:
    return None if figure is None else figure.mean


def curves_section(
    entries: Sequence[Entry], dataset: Dataset | None, compared: Entry | None
) -> Section:
    """Quality over sigma, over the threshold of Unknown Erasing, and over the iterations."""
    charts = []
    makers = {"sigma": sigma_series, "threshold": erasing_series, "T": iteration_series}
    folder = None if compared is None else compared.folder
    for title, knob, metric in _CURVES:
        series = (
            makers[knob](entries, dataset, metric=metric)
            if knob in makers
            else read_iterations(folder, metric=metric)
        )
        if series:
            name = _RUN_COLUMNS[metric]
            chart = Chart(
                title=title, x_name=knob, y_name=name, series=series, is_log=knob == "sigma"
            )
            charts.append(draw_chart(chart))
    body = f'<div class="charts">{"".join(charts)}</div>' if charts else ""
    hint = paragraph(
        "A curve needs runs that differ in its knob alone: sweep=sigma, sweep=unknown_erasing, "
        "sweep=iterations; bars are standard deviations over seeds. Iterations of one network come "
        "from scripts/evaluate_iterations.py --save.",
        kind="faint",
    )
    return Section("curves", "Curves", body + hint)


def categories_section(
    baseline: tuple[Entry, Run] | None, compared: tuple[Entry, Run] | None
) -> Section:
    """PQ of every category with its change to the baseline."""
    if compared is None:
        return Section("categories", "Categories", paragraph("No finished run with its counts."))
    entry, run = compared
    quality, present = _category_quality(run)
    before = None
    if baseline is not None and baseline[1].categories == run.categories:
        before, present_before = _category_quality(baseline[1])
        present = present | present_before
    header = ["category", "kind", "PQ", "PQ of 100", *([] if before is None else ["change", "bar"])]
    largest = 0.0 if before is None else float(np.abs(quality - before).max())
    rows = []
    for k, category in enumerate(run.categories.categories):
        if not present[k]:
            continue
        value = float(quality[k])
        cells = [
            Cell(category.name),
            Cell("thing" if category.is_thing else "stuff"),
            Cell(f"{100 * value:.1f}", value),
            Cell("", value, _value_bar(value)),
        ]
        if before is not None:
            change = value - float(before[k])
            cells += [
                Cell(f"{100 * change:+.1f}", change),
                Cell("", change, _change_bar(change, largest)),
            ]
        rows.append(cells)
    text = f"{entry.name}" + ("" if baseline is None else f", change to {baseline[0].name}")
    absent = len(run.categories) - len(rows)
    note = f"Left out, for want of any segment: {absent} categories." if absent else ""
    return Section(
        "categories",
        "Categories",
        paragraph(text, kind="faint")
        + sortable_table("PQ times 100 by category", header, rows)
        + (paragraph(note, kind="faint") if note else ""),
    )


def _category_quality(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """``[C]`` PQ, and whether the category is there at all."""
    iou, halves = run.iou.sum(axis=0), run.halves.sum(axis=0)
    return np.divide(iou, halves, out=np.zeros_like(iou), where=halves > 0), halves > 0


def _value_bar(value: float) -> str:
    width = _BAR_WIDTH * value
    return _bar(f'<rect class="value" width="{width:.1f}" height="{_BAR_HEIGHT}"/>')


def _change_bar(change: float, largest: float) -> str:
    """From the middle; the largest change of all reaches the end."""
    middle = _BAR_WIDTH / 2
    width = middle * abs(change) / largest if largest else 0.0
    kind, x = ("gain", middle) if change >= 0 else ("loss", middle - width)
    return _bar(
        f'<rect class="{kind}" x="{x:.1f}" width="{width:.1f}" height="{_BAR_HEIGHT}"/>'
        f'<line class="zero" x1="{middle}" x2="{middle}" y1="0" y2="{_BAR_HEIGHT}"/>'
    )


def _bar(marks: str) -> str:
    return (
        f'<svg class="bar" viewBox="0 0 {_BAR_WIDTH} {_BAR_HEIGHT}" aria-hidden="true">'
        f'<rect class="track" width="{_BAR_WIDTH}" height="{_BAR_HEIGHT}"/>{marks}</svg>'
    )


def pairs_section(decisions: Mapping[str, "PairDecisions"]) -> Section:
    """Which of two overlapping instances every rule puts on top, against the truth."""
    if not decisions:
        hint = "Give --predictions CACHE to count how often each order is right."
        return Section("pairs", "Pair decisions", paragraph(hint, kind="faint"))
    rows = []
    for name, rule in decisions.items():
        counts = rule.confusion.ravel().tolist()
        is_known = not math.isnan(rule.accuracy)
        accuracy = Cell(
            f"{100 * rule.accuracy:.1f} %" if is_known else "—", rule.accuracy if is_known else None
        )
        rows.append([Cell(name), *(Cell(str(n), n) for n in counts), accuracy])
    unknown = max(rule.num_unknown for rule in decisions.values())
    text = (
        "Of two overlapping instances, which lies on top: the one with the higher score or the "
        f"other? Truth and decision; {unknown} pairs that the truth does not order are left out."
    )
    header = [
        "rule",
        "true higher, said higher",
        "true higher, said lower",
        "true lower, said higher",
        "true lower, said lower",
        "right",
    ]
    table = sortable_table("Confusion of the pair decisions", header, rows)
    return Section("pairs", "Pair decisions", paragraph(text, kind="faint") + table)


def runs_section(entries: Sequence[Entry], problems: Sequence[str]) -> Section:
    """Every run, whatever became of it."""
    rows = []
    for entry in entries:
        settings = entry.settings
        cells = [
            Cell(entry.name),
            Cell(entry.state if entry.state == "finished" else f"{entry.state}: {entry.reason}"),
            Cell(entry.dataset.label),
            Cell("—" if settings is None else f"{settings.backbone}, T = {settings.iterations}"),
            Cell("—" if settings is None else f"{settings.relation}, UE {settings.erasing}"),
            Cell(str(entry.config.get("seed", "—"))),
        ]
        for key in _RUN_COLUMNS:
            value = entry.metrics.get(key)
            cells.append(Cell("—", None) if value is None else Cell(f"{100 * value:.1f}", value))
        rows.append(cells)
    header = ["run", "state", "dataset", "network", "fusion", "seed", *_RUN_COLUMNS.values()]
    lines = [f"left out: {line}" for line in problems]
    return Section(
        "runs", "Runs", bullets(lines) + sortable_table("All runs, times 100", header, rows)
    )
