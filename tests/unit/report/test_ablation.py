import json
import math

import pytest

from made_up_ablation import (
    SOE,
    make_config,
    make_evaluation,
    write_components,
    write_entry,
    write_unfinished,
)
from refine.atomic import write_text
from refine.errors import RefineError
from refine.report.ablation import build_tables, choose_dataset
from refine.report.bootstrap import (
    bootstrap_difference,
    bootstrap_run,
    difference_intervals,
    resample,
)
from refine.report.entries import read_entries
from refine.report.paper import TABLES
from refine.report.runs import read_run


def make_table(root, number=3, *, num_resamples=50):
    entries, problems = read_entries([root])
    assert problems == []
    dataset = choose_dataset(entries)
    (table,) = build_tables(entries, dataset, numbers=[number], num_resamples=num_resamples)
    return table


def find_row(table, label):
    return next(row for row in table.rows if row.paper.label == label)


def test_seeds_become_mean_and_deviation(tmp_path):
    table = make_table(write_components(tmp_path))
    row = find_row(table, "+ IBPP")
    values = [e.metrics["pq"] for e in row.entries]
    assert [e.config["seed"] for e in row.entries] == [0, 1, 2]
    assert row.figures["pq"].mean == pytest.approx(sum(values) / 3)
    mean = sum(values) / 3
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / 2)
    assert row.figures["pq"].std == pytest.approx(spread)
    assert row.figures["pq"].interval.low <= mean <= row.figures["pq"].interval.high
    assert row.notes == []


def test_one_seed_has_the_plain_bootstrap_interval_and_a_paired_difference(tmp_path):
    table = make_table(write_components(tmp_path, seeds=(0,)))
    row, base = find_row(table, "+ IBPP + SOE"), find_row(table, "Panoptic-FPN")
    own, reference = (read_run(r.entries[0].folder) for r in (row, base))
    assert row.figures["pq_stuff"].std is None
    assert row.figures["pq_stuff"].interval == bootstrap_run(own, num_resamples=50)["pq_stuff"]
    assert row.difference == bootstrap_difference(reference, own, num_resamples=50)["pq"]
    assert base.difference is None


def test_differences_are_over_the_seeds_that_both_rows_have(tmp_path):
    write_components(tmp_path, seeds=(0, 1, 2))
    for seed in (0, 2):
        (tmp_path / "soe" / f"seed{seed}" / "DONE").unlink()
    table = make_table(tmp_path)
    row = find_row(table, "+ IBPP + SOE")
    assert [e.seed for e in row.entries] == ["seed 1"]
    alone = read_run(tmp_path / "plain" / "seed1"), read_run(tmp_path / "soe" / "seed1")
    assert row.difference == bootstrap_difference(*alone, num_resamples=50)["pq"]


def test_failed_unfinished_and_foreign_runs_are_named_and_not_mixed(tmp_path):
    write_components(tmp_path, seeds=(0, 1))
    alone = make_table(tmp_path)
    write_unfinished(tmp_path / "soe" / "seed2", make_config(seed=2, relations=SOE), error="boom")
    write_unfinished(tmp_path / "soe" / "seed3", make_config(seed=3, relations=SOE))
    write_entry(tmp_path / "other", make_config(relations=SOE, num_val=5), num_images=5)
    table = make_table(tmp_path)
    row = find_row(table, "+ IBPP + SOE")
    assert row.figures == find_row(alone, "+ IBPP + SOE").figures
    assert len(row.entries) == 2
    notes = "\n".join(row.notes)
    assert f"{tmp_path / 'soe' / 'seed2'} failed: boom" in notes
    assert f"{tmp_path / 'soe' / 'seed3'} has not finished: no DONE" in notes
    assert "1 run on another dataset (toy scenes, 5 images) left out" in notes
    assert len(row.notes) == 3


def test_a_row_of_nothing_but_failures_has_no_figures(tmp_path):
    write_entry(tmp_path / "base", make_config(iterations=0, cascade=False))
    write_unfinished(tmp_path / "ibpp", make_config(), error="boom")
    row = find_row(make_table(tmp_path), "+ IBPP")
    assert (row.entries, row.figures) == ([], {})
    assert "boom" in row.notes[0]


def test_runs_of_other_settings_are_left_out_the_defaults_count(tmp_path):
    for thresh in (0.3, 0.5, 0.7):
        config = make_config(erasing={"mode": "score", "score_thresh": thresh})
        write_entry(tmp_path / str(thresh), config)
    row = find_row(make_table(tmp_path), "+ IBPP + UE, no SOE")
    assert [e.folder.name for e in row.entries] == ["0.5"]
    (note,) = row.notes
    assert note == ("2 runs left out: fusion.unknown_erasing.score_thresh is 0.3, 0.7, not 0.5")


def test_a_training_and_the_evaluation_of_its_cache_are_not_two_seeds(tmp_path):
    write_entry(tmp_path / "a", make_config())
    write_entry(tmp_path / "b", make_evaluation(tmp_path / "gone"))
    row = find_row(make_table(tmp_path), "+ IBPP")
    assert [e.folder.name for e in row.entries] == ["a"]
    assert row.notes == ["1 run left out: kind of run is evaluation, not training"]


def test_orders_are_compared_on_the_predictions_of_one_network(tmp_path):
    for seed in (0, 1):
        write_entry(tmp_path / f"trained{seed}", make_config(seed=seed))
    write_entry(tmp_path / "cached", make_evaluation(tmp_path / "gone"))
    row = find_row(make_table(tmp_path, 5), "heuristic (score)")
    assert [e.folder.name for e in row.entries] == ["cached"]


def test_the_same_seed_twice_counts_once(tmp_path):
    for name, quality in (("a", 0.8), ("b", 0.9)):
        write_entry(tmp_path / name, make_config(seed=4), quality=quality)
    row = find_row(make_table(tmp_path), "+ IBPP")
    assert [e.folder.name for e in row.entries] == ["a"]
    assert row.notes == [f"2 runs of seed 4: {tmp_path / 'a'} counts"]


def test_one_computation_done_twice_needs_no_note(tmp_path):
    """As sweeps do that share a setting."""
    for name in ("a", "b"):
        write_entry(tmp_path / name, make_config(seed=4))
    row = find_row(make_table(tmp_path), "+ IBPP")
    assert [e.folder.name for e in row.entries] == ["a"]
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
    assert [e.seed for e in row.entries] == ["seed 1", "seed 2"]
    own = [read_run(e.folder) for e in row.entries]
    reference = [read_run(e.folder) for e in base.entries if e.seed != "seed 0"]
    both = ([resample(r, num_resamples=50) for r in runs] for runs in (reference, own))
    assert row.difference == difference_intervals(*both)["pq"]


def test_crowded_scenes_are_another_dataset(tmp_path):
    write_entry(tmp_path / "a", make_config(seed=0))
    crowded, older = make_config(seed=1), make_config(seed=2)
    crowded["data"]["toy"]["crowded"] = True
    del older["data"]["toy"]["crowded"]  # recorded before there was a choice
    write_entry(tmp_path / "b", crowded)
    row = find_row(make_table(tmp_path), "+ IBPP")
    assert [e.folder.name for e in row.entries] == ["a"]
    (note,) = row.notes
    assert "another dataset" in note
    write_entry(tmp_path / "c", older)
    entries, _ = read_entries([tmp_path])
    assert [e.dataset.contradicts(entries[0].dataset) for e in entries] == [False, True, False]


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
    entries, _ = read_entries([tmp_path])
    tables = build_tables(entries, choose_dataset(entries), num_resamples=0)
    assert [t.title.partition(":")[0] for t in tables] == [f"Toy Table {k}" for k in (3, 4, 5, 6)]
    assert all("another dataset" in t.caption for t in tables)
    labels = [row.paper.label for row in tables[1].rows]
    assert "T = 2" in labels
    assert not any("R101" in label for label in labels)
    assert tables[0].rows[0].paper.printed["pq"] == 39.6


def test_without_runs_there_are_all_tables_and_no_figures():
    tables = build_tables([], None)
    assert [t.paper for t in tables] == list(TABLES)
    assert not any(row.figures for t in tables for row in t.rows)


def test_coco_rows_ask_for_their_backbone(tmp_path):
    write_entry(tmp_path / "a", make_config(toy=False, backbone="r50"))
    write_entry(tmp_path / "b", make_config(toy=False, backbone="r101"))
    table = make_table(tmp_path, 4)
    assert [e.folder.name for e in find_row(table, "T = 3").entries] == ["a"]
    assert [e.folder.name for e in find_row(table, "R101, T = 3").entries] == ["b"]
    assert "another dataset" in table.caption  # 8 of 5000 images


def test_the_dataset_of_most_runs_is_chosen_or_the_named_one(tmp_path):
    write_components(tmp_path, seeds=(0,))
    write_entry(tmp_path / "other", make_config(num_val=5), num_images=5)
    entries, _ = read_entries([tmp_path])
    assert choose_dataset(entries).num_images == 8
    assert choose_dataset(entries, "5 images").num_images == 5
    with pytest.raises(RefineError, match="named 'coco'; there is: toy scenes, 8 images; toy"):
        choose_dataset(entries, "coco")
    assert choose_dataset([]) is None
