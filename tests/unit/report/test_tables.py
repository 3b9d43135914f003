import io
import json
import statistics

import pandas as pd
import pytest

from make.errors import refused
from make.runs import (
    SOE,
    make_config,
    make_evaluation,
    write_components,
    write_entry,
    write_unfinished,
)
from refine.atomic import write_text
from refine.report.bootstrap import compare, compute_intervals, resample
from refine.report.collect import read_runs
from refine.report.finished_run import read_run
from refine.report.paper import load_tables
from refine.report.table_text import FORMATS, to_csv, to_json, to_latex, to_markdown
from refine.report.tables import build_tables, choose_dataset


def make_table(root, number=3):
    runs, problems = read_runs([root])
    assert problems == []
    (table,) = build_tables(runs, choose_dataset(runs), numbers=[number], num_resamples=50)
    return table


def find_row(table, label):
    return next(row for row in table.rows if row.paper.label == label)


def names_and_notes(root, label, number=3):
    row = find_row(make_table(root, number), label)
    return [f.name for f in row.runs["folder"]], row.notes


def test_seeds_become_mean_and_deviation(tables):
    row = find_row(tables[0], "+ IBPP")
    values, figure = row.runs["pq"].tolist(), row.figures["pq"]
    assert row.runs["seed"].tolist() == ["seed 0", "seed 1", "seed 2"]
    assert figure.mean == pytest.approx(statistics.mean(values))
    assert figure.std == pytest.approx(statistics.stdev(values))
    assert figure.interval.low <= figure.mean <= figure.interval.high
    assert row.notes == []


def test_one_seed_has_the_plain_bootstrap_interval_and_a_paired_difference(tmp_path):
    table = make_table(write_components(tmp_path, seeds=(0,)))
    labels = ("Panoptic-FPN", "+ IBPP", "+ IBPP + SOE")
    rows = [find_row(table, label) for label in labels]
    base, ibpp, own = (read_run(row.runs["folder"].iloc[0]) for row in rows)
    figure = rows[2].figures["pq_stuff"]
    assert figure.std is None
    assert figure.interval == compute_intervals([resample(own, num_resamples=50)])["pq_stuff"]
    assert rows[2].difference == compare(base, own, num_resamples=50)["pq"]
    assert rows[2].added == compare(ibpp, own, num_resamples=50)["pq"]
    assert rows[0].difference is None


def test_unfinished_and_foreign_runs_are_named_and_differences_over_common_seeds(tmp_path):
    write_components(tmp_path)
    write_unfinished(tmp_path / "soe" / "seed3", make_config(seed=3, relations=SOE))
    write_entry(tmp_path / "other", make_config(relations=SOE, num_val=5), num_images=5)
    for seed in (0, 2):
        (tmp_path / "soe" / f"seed{seed}" / "DONE").unlink()
    row = find_row(make_table(tmp_path), "+ IBPP + SOE")
    assert row.runs["seed"].tolist() == ["seed 1"]
    alone = [read_run(tmp_path / name / "seed1") for name in ("plain", "soe")]
    assert row.difference == compare(*alone, num_resamples=50)["pq"]
    assert row.figures["pq"].mean == alone[1].metrics["pq"]
    first, *unfinished = row.notes
    assert first == "1 run on another dataset (toy scenes, 5 images) left out"
    folders = [tmp_path / "soe" / f"seed{seed}" for seed in (0, 2, 3)]
    assert unfinished == [f"{f} has not finished: no DONE" for f in folders]


def test_runs_of_other_settings_are_left_out_the_defaults_count(tmp_path):
    for thresh in (0.3, 0.5, 0.7):
        config = make_config(erasing={"mode": "score", "score_thresh": thresh})
        write_entry(tmp_path / str(thresh), config)
    names, notes = names_and_notes(tmp_path, "+ IBPP + UE, no SOE")
    assert names == ["0.5"]
    assert notes == ["2 runs left out: fusion.unknown_erasing.score_thresh is 0.3, 0.7, not 0.5"]


def test_trainings_count_before_evaluations_but_where_orders_are_compared(tmp_path):
    for seed in (0, 1):
        write_entry(tmp_path / f"trained{seed}", make_config(seed=seed))
    write_entry(tmp_path / "cached", make_evaluation(tmp_path / "gone"))
    names, notes = names_and_notes(tmp_path, "+ IBPP")
    assert names == ["trained0", "trained1"]
    assert notes == ["1 run left out: kind of run is evaluation, not training"]
    assert names_and_notes(tmp_path, "heuristic (score)", 5)[0] == ["cached"]


def test_the_same_seed_twice_counts_once(tmp_path):
    for name in ("a", "b"):
        write_entry(tmp_path / name, make_config(seed=4))
    assert names_and_notes(tmp_path, "+ IBPP") == (["a"], [])  # one computation done twice
    write_entry(tmp_path / "b", make_config(seed=4), quality=0.9)
    notes = [f"2 runs of seed 4: {tmp_path / 'a'} counts"]
    assert names_and_notes(tmp_path, "+ IBPP") == (["a"], notes)


def test_evaluations_of_several_seeds_are_paired_with_their_trainings(tmp_path):
    runs = {}
    for seed in (0, 1, 2):
        plain = make_config(iterations=0, cascade=False, seed=seed)
        base = write_entry(tmp_path / f"plain{seed}", plain, seed=seed)
        cache = tmp_path / f"cache{seed}"
        checkpoint = {"config": make_config(relations=SOE), "seed": seed}
        write_text(cache / "header.json", json.dumps({"checkpoint": checkpoint}))
        if seed:
            config = make_evaluation(cache, relations=SOE)
            runs[base] = write_entry(tmp_path / f"soe{seed}", config, seed=seed)
    row = find_row(make_table(tmp_path), "+ IBPP + SOE")
    assert row.runs["seed"].tolist() == ["seed 1", "seed 2"]
    before, after = (
        [resample(read_run(f), num_resamples=50) for f in folders]
        for folders in (runs.keys(), runs.values())
    )
    assert row.difference == compute_intervals(after, minus=before)["pq"]


def test_damaged_counts_cost_the_interval_only_and_failures_all(tmp_path):
    write_unfinished(tmp_path / "base", make_config(iterations=0, cascade=False))
    (write_entry(tmp_path / "run", make_config()) / "per_image.csv").unlink()
    table = make_table(tmp_path)
    failed, row = (find_row(table, label) for label in ("Panoptic-FPN", "+ IBPP"))
    assert (len(failed.runs), failed.figures) == (0, {})
    assert "has not finished" in failed.notes[0]
    assert row.figures["pq"].interval is None
    assert row.figures["pq"].mean > 0
    (note,) = row.notes
    assert note.startswith("no interval: ")


def test_rows_that_differ_in_their_schedule_are_warned_of(tmp_path):
    write_components(tmp_path, seeds=(0,))
    assert make_table(tmp_path).warnings == []
    write_entry(tmp_path / "ibpp3" / "seed0", make_config(schedule={"max_steps": 900}))
    (warning,) = make_table(tmp_path).warnings
    assert warning.startswith("rows differ in schedule.max_steps: ")
    assert "900 in + IBPP" in warning


def test_coco_rows_ask_for_their_backbone(tmp_path):
    write_entry(tmp_path / "a", make_config(toy=False, backbone="r50"))
    write_entry(tmp_path / "b", make_config(toy=False, backbone="r101"))
    assert names_and_notes(tmp_path, "T = 3", 4)[0] == ["a"]
    assert names_and_notes(tmp_path, "R101, T = 3", 4)[0] == ["b"]
    assert "another dataset" in make_table(tmp_path, 4).caption  # 8 of 5000 images


def test_the_dataset_of_most_runs_is_chosen_or_the_named_one(tmp_path):
    write_components(tmp_path, seeds=(0,))
    write_entry(tmp_path / "other", make_config(num_val=5), num_images=5)
    runs, _ = read_runs([tmp_path])
    assert choose_dataset(runs)["num_images"] == 8
    assert choose_dataset(runs, "5 images")["num_images"] == 5
    with refused("named 'coco'; there is: toy scenes, 8 images; toy"):
        choose_dataset(runs, "coco")


def test_without_runs_there_are_all_tables_and_no_figures():
    runs, _ = read_runs([])
    assert choose_dataset(runs) is None
    tables = build_tables(runs, None)
    assert [t.paper for t in tables] == list(load_tables().values())
    assert not any(row.figures for t in tables for row in t.rows)
    assert all(write([]).endswith("\n") for write in FORMATS.values())


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    runs, _ = read_runs([write_components(tmp_path_factory.mktemp("runs"))])
    return build_tables(runs, choose_dataset(runs), num_resamples=40)


def test_toy_tables_have_the_papers_rows_of_one_backbone(tables):
    assert [t.title.partition(":")[0] for t in tables] == [f"Toy Table {k}" for k in (3, 4, 5, 6)]
    assert all("another dataset" in t.caption for t in tables)
    labels = [row.paper.label for row in tables[1].rows]
    assert "T = 2" in labels
    assert not any("R101" in label for label in labels)
    assert tables[0].rows[0].paper.printed["pq"] == 39.6


def test_markdown(tables):
    text = to_markdown(tables[:2])
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
    rows = pd.read_csv(io.StringIO(to_csv(tables[:2])))
    assert len(rows) == 7 * 3 + 10 * 5
    rows = rows.set_index(["row", "metric"])
    row = rows.loc["+ IBPP", "pq"]
    assert row["paper"] == pytest.approx(0.422)
    assert row["ours"] == pytest.approx(tables[0].rows[2].figures["pq"].mean)
    assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert row["added"] == row["difference"]
    assert (row["num_runs"], row["is_misprint"]) == (3, False)
    assert rows.loc["T = 2", "ap_box"][["paper", "ours"]].isna().all()
    content = json.loads(to_json(tables))
    assert [t["number"] for t in content] == [3, 4, 5, 6]
    value = content[0]["values"][6]
    assert (value["row"], value["metric"], value["ours"]) == ("+ IBPP", "pq", row["ours"])
    assert content[1]["values"][5]["is_misprint"] is True


def test_latex_is_balanced_and_escaped(tables):
    text = to_latex(tables[:2])
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 2
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 2
    assert all(n.startswith("%") for n in text.splitlines() if not n.isascii())
    body = [n for n in text.splitlines() if n.endswith(r" \\")]
    assert len({n.count(" & ") for n in body[:7]}) == 1
