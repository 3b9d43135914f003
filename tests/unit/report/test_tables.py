import json
import math

import pytest

from make.runs import (
    SOE,
    make_config,
    make_evaluation,
    write_components,
    write_entry,
    write_unfinished,
)
from refine.atomic import write_text
from refine.errors import RefineError
from refine.report.bootstrap import compare, compute_intervals, resample
from refine.report.collect import read_runs
from refine.report.finished_run import read_run
from refine.report.paper import load_tables
from refine.report.tables import build_tables, choose_dataset


def make_table(root, number=3, *, num_resamples=50):
    runs, problems = read_runs([root])
    assert problems == []
    dataset = choose_dataset(runs)
    (table,) = build_tables(runs, dataset, numbers=[number], num_resamples=num_resamples)
    return table


def find_row(table, label):
    return next(row for row in table.rows if row.paper.label == label)


def test_seeds_become_mean_and_deviation(tmp_path):
    table = make_table(write_components(tmp_path))
    row = find_row(table, "+ IBPP")
    values = row.runs["pq"].tolist()
    assert row.runs["seed"].tolist() == ["seed 0", "seed 1", "seed 2"]
    assert row.figures["pq"].mean == pytest.approx(sum(values) / 3)
    mean = sum(values) / 3
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / 2)
    assert row.figures["pq"].std == pytest.approx(spread)
    assert row.figures["pq"].interval.low <= mean <= row.figures["pq"].interval.high
    assert row.notes == []


def test_one_seed_has_the_plain_bootstrap_interval_and_a_paired_difference(tmp_path):
    table = make_table(write_components(tmp_path, seeds=(0,)))
    row, base = find_row(table, "+ IBPP + SOE"), find_row(table, "Panoptic-FPN")
    own, reference = (read_run(r.runs["folder"].iloc[0]) for r in (row, base))
    assert row.figures["pq_stuff"].std is None
    assert (
        row.figures["pq_stuff"].interval
        == compute_intervals([resample(own, num_resamples=50)])["pq_stuff"]
    )
    assert row.difference == compare(reference, own, num_resamples=50)["pq"]
    assert base.difference is None
    ibpp = read_run(find_row(table, "+ IBPP").runs["folder"].iloc[0])
    assert row.added == compare(ibpp, own, num_resamples=50)["pq"]


def test_differences_are_over_the_seeds_that_both_rows_have(tmp_path):
    write_components(tmp_path, seeds=(0, 1, 2))
    for seed in (0, 2):
        (tmp_path / "soe" / f"seed{seed}" / "DONE").unlink()
    table = make_table(tmp_path)
    row = find_row(table, "+ IBPP + SOE")
    assert row.runs["seed"].tolist() == ["seed 1"]
    alone = read_run(tmp_path / "plain" / "seed1"), read_run(tmp_path / "soe" / "seed1")
    assert row.difference == compare(*alone, num_resamples=50)["pq"]


def test_unfinished_and_foreign_runs_are_named_and_not_mixed(tmp_path):
    write_components(tmp_path, seeds=(0, 1))
    alone = make_table(tmp_path)
    write_unfinished(tmp_path / "soe" / "seed2", make_config(seed=2, relations=SOE))
    write_unfinished(tmp_path / "soe" / "seed3", make_config(seed=3, relations=SOE))
    write_entry(tmp_path / "other", make_config(relations=SOE, num_val=5), num_images=5)
    table = make_table(tmp_path)
    row = find_row(table, "+ IBPP + SOE")
    assert row.figures == find_row(alone, "+ IBPP + SOE").figures
    assert len(row.runs) == 2
    notes = "\n".join(row.notes)
    assert f"{tmp_path / 'soe' / 'seed2'} has not finished: no DONE" in notes
    assert f"{tmp_path / 'soe' / 'seed3'} has not finished: no DONE" in notes
    assert "1 run on another dataset (toy scenes, 5 images) left out" in notes
    assert len(row.notes) == 3


def test_a_row_of_nothing_but_failures_has_no_figures(tmp_path):
    write_entry(tmp_path / "base", make_config(iterations=0, cascade=False))
    write_unfinished(tmp_path / "ibpp", make_config())
    row = find_row(make_table(tmp_path), "+ IBPP")
    assert (len(row.runs), row.figures) == (0, {})
    assert "has not finished" in row.notes[0]


def test_runs_of_other_settings_are_left_out_the_defaults_count(tmp_path):
    for thresh in (0.3, 0.5, 0.7):
        config = make_config(erasing={"mode": "score", "score_thresh": thresh})
        write_entry(tmp_path / str(thresh), config)
    row = find_row(make_table(tmp_path), "+ IBPP + UE, no SOE")
    assert [f.name for f in row.runs["folder"]] == ["0.5"]
    (note,) = row.notes
    assert note == ("2 runs left out: fusion.unknown_erasing.score_thresh is 0.3, 0.7, not 0.5")


def test_a_training_and_the_evaluation_of_its_cache_are_not_two_seeds(tmp_path):
    write_entry(tmp_path / "a", make_config())
    write_entry(tmp_path / "b", make_evaluation(tmp_path / "gone"))
    row = find_row(make_table(tmp_path), "+ IBPP")
    assert [f.name for f in row.runs["folder"]] == ["a"]
    assert row.notes == ["1 run left out: kind of run is evaluation, not training"]


def test_orders_are_compared_on_the_predictions_of_one_network(tmp_path):
    for seed in (0, 1):
        write_entry(tmp_path / f"trained{seed}", make_config(seed=seed))
    write_entry(tmp_path / "cached", make_evaluation(tmp_path / "gone"))
    row = find_row(make_table(tmp_path, 5), "heuristic (score)")
    assert [f.name for f in row.runs["folder"]] == ["cached"]


def test_the_same_seed_twice_counts_once(tmp_path):
    for name, quality in (("a", 0.8), ("b", 0.9)):
        write_entry(tmp_path / name, make_config(seed=4), quality=quality)
    row = find_row(make_table(tmp_path), "+ IBPP")
    assert [f.name for f in row.runs["folder"]] == ["a"]
    assert row.notes == [f"2 runs of seed 4: {tmp_path / 'a'} counts"]


def test_one_computation_done_twice_needs_no_note(tmp_path):
    """As sweeps do that share a setting."""
    for name in ("a", "b"):
        write_entry(tmp_path / name, make_config(seed=4))
    row = find_row(make_table(tmp_path), "+ IBPP")
    assert [f.name for f in row.runs["folder"]] == ["a"]
    assert row.notes == []


def test_evaluations_of_several_seeds_are_paired_with_their_trainings(tmp_path):
    for seed in (0, 1, 2):
        write_entry(
            tmp_path / f"plain{seed}",
            make_config(iterations=0, cascade=False, seed=seed),
            seed=seed,
        )
        config = make_config(relations=SOE)
        cache = tmp_path / f"cache{seed}"
        checkpoint = {"config": config, "seed": seed}
        write_text(cache / "header.json", json.dumps({"checkpoint": checkpoint}))
        if seed:
            write_entry(tmp_path / f"soe{seed}", make_evaluation(cache, relations=SOE), seed=seed)
    table = make_table(tmp_path)
    base, row = find_row(table, "Panoptic-FPN"), find_row(table, "+ IBPP + SOE")
    assert row.runs["seed"].tolist() == ["seed 1", "seed 2"]
    own = [read_run(f) for f in row.runs["folder"]]
    reference = [read_run(f) for f in base.runs["folder"][1:]]
    before, after = ([resample(r, num_resamples=50) for r in runs] for runs in (reference, own))
    assert row.difference == compute_intervals(after, minus=before)["pq"]


def test_damaged_counts_cost_the_interval_only(tmp_path):
    folder = write_entry(tmp_path / "run", make_config())
    (folder / "per_image.csv").unlink()
    row = find_row(make_table(tmp_path), "+ IBPP")
    assert row.figures["pq"].interval is None
    assert row.figures["pq"].mean > 0
    (note,) = row.notes
    assert note.startswith("no interval: ")


def test_rows_that_differ_in_their_schedule_are_warned_of(tmp_path):
    write_components(tmp_path, seeds=(0,))
    assert make_table(tmp_path).warnings == []
    longer = make_config(relations={"kind": "score"}, schedule={"max_steps": 900})
    write_entry(tmp_path / "ibpp3" / "seed0", longer)
    (warning,) = make_table(tmp_path).warnings
    assert warning.startswith("rows differ in schedule.max_steps: ")
    assert "900 in + IBPP" in warning


def test_toy_tables_have_the_papers_rows_of_one_backbone(tmp_path):
    write_components(tmp_path, seeds=(0,))
    runs, _ = read_runs([tmp_path])
    tables = build_tables(runs, choose_dataset(runs), num_resamples=0)
    assert [t.title.partition(":")[0] for t in tables] == [f"Toy Table {k}" for k in (3, 4, 5, 6)]
    assert all("another dataset" in t.caption for t in tables)
    labels = [row.paper.label for row in tables[1].rows]
    assert "T = 2" in labels
    assert not any("R101" in label for label in labels)
    assert tables[0].rows[0].paper.printed["pq"] == 39.6


def test_without_runs_there_are_all_tables_and_no_figures():
    tables = build_tables(read_runs([])[0], None)
    assert [t.paper for t in tables] == list(load_tables().values())
    assert not any(row.figures for t in tables for row in t.rows)


def test_coco_rows_ask_for_their_backbone(tmp_path):
    write_entry(tmp_path / "a", make_config(toy=False, backbone="r50"))
    write_entry(tmp_path / "b", make_config(toy=False, backbone="r101"))
    table = make_table(tmp_path, 4)
    assert [f.name for f in find_row(table, "T = 3").runs["folder"]] == ["a"]
    assert [f.name for f in find_row(table, "R101, T = 3").runs["folder"]] == ["b"]
    assert "another dataset" in table.caption  # 8 of 5000 images


def test_the_dataset_of_most_runs_is_chosen_or_the_named_one(tmp_path):
    write_components(tmp_path, seeds=(0,))
    write_entry(tmp_path / "other", make_config(num_val=5), num_images=5)
    runs, _ = read_runs([tmp_path])
    assert choose_dataset(runs)["num_images"] == 8
    assert choose_dataset(runs, "5 images")["num_images"] == 5
    with pytest.raises(RefineError, match="named 'coco'; there is: toy scenes, 8 images; toy"):
        choose_dataset(runs, "coco")
    assert choose_dataset(read_runs([])[0]) is None
