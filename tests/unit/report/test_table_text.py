import io
import json

import pandas as pd
import pytest

from make.runs import write_components
from refine.report.collect import read_runs
from refine.report.table_text import FORMATS, to_csv, to_json, to_latex, to_markdown
from refine.report.tables import build_tables, choose_dataset


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    runs, _ = read_runs([write_components(tmp_path_factory.mktemp("runs"))])
    return build_tables(runs, choose_dataset(runs), numbers=[3, 4], num_resamples=40)


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


def test_csv_and_json_hold_fractions(tables):
    rows = pd.read_csv(io.StringIO(to_csv(tables)))
    assert len(rows) == 6 * 3 + 9 * 5
    rows = rows.set_index(["row", "metric"])
    row = rows.loc["+ IBPP", "pq"]
    assert row["paper"] == pytest.approx(0.422)
    assert row["ours"] == pytest.approx(tables[0].rows[1].figures["pq"].mean)
    assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert row["added"] == row["difference"]
    assert (row["num_runs"], row["is_misprint"]) == (3, False)
    assert rows.loc["T = 2", "ap_box"][["paper", "ours"]].isna().all()
    content = json.loads(to_json(tables))
    assert [t["number"] for t in content] == [3, 4]
    value = content[0]["values"][3]
    assert (value["row"], value["metric"], value["ours"]) == ("+ IBPP", "pq", row["ours"])
    assert content[1]["values"][5]["is_misprint"] is True


def test_latex_is_balanced_and_escaped(tables):
    text = to_latex(tables)
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 2
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 2
    assert text.isascii() or all(n.startswith("%") for n in text.splitlines() if not n.isascii())
    body = [n for n in text.splitlines() if n.endswith(r" \\")]
    assert len({n.count(" & ") for n in body[:7]}) == 1


def test_no_tables_are_no_error():
    for write in FORMATS.values():
        assert write([]).endswith("\n")
