import csv
import io
import json

import pytest

from made_up_ablation import write_components
from refine.report.ablation import Figure, build_tables, choose_dataset
from refine.report.bootstrap import Interval
from refine.report.entries import read_entries
from refine.report.table_text import (
    FORMATS,
    format_figure,
    format_interval,
    to_csv,
    to_json,
    to_latex,
    to_markdown,
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    entries, _ = read_entries([write_components(tmp_path_factory.mktemp("runs"))])
    return build_tables(entries, choose_dataset(entries), numbers=[3, 4], num_resamples=40)


def test_figures_as_text():
    interval = Interval(value=0.5, low=0.478, high=0.521)
    assert format_figure(None, "pq") == "—"
    assert format_figure(Figure(mean=0.5), "pq") == "50.0"
    assert format_figure(Figure(mean=0.5, std=0.012), "pq") == "50.0 ± 1.2"
    assert format_figure(Figure(mean=0.5, interval=interval), "pq") == "50.0 [47.8, 52.1]"
    assert format_figure(Figure(mean=12.34), "images_per_second") == "12.3"
    assert format_interval(Interval(value=-0.01, low=-0.02, high=0.0)) == "-1.0 [-2.0, +0.0]"
    assert format_interval(None) == "—"


def test_markdown(tables):
    text = to_markdown(tables)
    assert "## Toy Table 3: what each part adds" in text
    line = next(line for line in text.splitlines() if line.startswith("| + IBPP + SOE + UE"))
    assert [c.strip() for c in line.split("|")][2] == "44.9"
    assert " ± " in line
    assert " ± " not in next(n for n in text.splitlines() if n.startswith("| + IBPP + UE by an"))
    assert "41.0†" in text
    assert "- T = 1: † things and stuff imply PQ 40.8" in text
    widths = {len(n) for n in text.split("## Toy Table 4")[0].splitlines() if n.startswith("|")}
    assert len(widths) == 1


def test_csv_holds_fractions(tables):
    rows = list(csv.DictReader(io.StringIO(to_csv(tables))))
    assert len(rows) == 6 * 3 + 9 * 5
    (row,) = (r for r in rows if (r["row"], r["metric"]) == ("+ IBPP", "pq"))
    table_row = next(r for r in tables[0].rows if r.paper.label == "+ IBPP")
    assert float(row["paper"]) == pytest.approx(0.422)
    assert float(row["ours"]) == pytest.approx(table_row.figures["pq"].mean)
    assert float(row["difference_low"]) <= float(row["difference"])
    assert (row["num_runs"], row["is_misprint"]) == ("3", "False")
    (empty,) = (r for r in rows if (r["row"], r["metric"]) == ("T = 2", "ap_box"))
    assert (empty["paper"], empty["ours"]) == ("", "")


def test_json_is_the_same(tables):
    content = json.loads(to_json(tables))
    assert [t["number"] for t in content] == [3, 4]
    row = content[0]["rows"][1]
    assert row["label"] == "+ IBPP"
    assert len(row["runs"]) == 3
    assert row["metrics"][0]["metric"] == "pq"
    assert content[1]["rows"][1]["metrics"][0]["is_misprint"] is True


def test_latex_is_balanced_and_escaped(tables):
    text = to_latex(tables)
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 2
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 2
    assert text.isascii() or all(n.startswith("%") for n in text.splitlines() if not n.isascii())
    body = [n for n in text.splitlines() if n.endswith(r" \\")]
    assert len({n.count(" & ") for n in body[:7]}) == 1


def test_every_format_ends_with_a_newline(tables):
    for write in FORMATS.values():
        assert write(tables).endswith("\n")
        assert write([]).endswith("\n")
