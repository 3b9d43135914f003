import json
from types import SimpleNamespace

import pytest

from made_up_ablation import (
    SOE,
    make_config,
    make_evaluation,
    write_entry,
    write_unfinished,
)
from refine.atomic import write_text
from refine.report.entries import find_run_folders, from_wandb, read_entries
from refine.runs.results import write_config


def read_one(path):
    entries, problems = read_entries([path])
    assert problems == []
    (entry,) = entries
    return entry


def test_runs_are_found_below_a_folder(tmp_path):
    for name in ("b/seed0", "b/seed1", "a"):
        write_entry(tmp_path / name, make_config())
    (tmp_path / "a" / "checkpoints").mkdir()
    write_text(tmp_path / "a" / "checkpoints" / "config.yaml", "no run")
    names = [p.relative_to(tmp_path).as_posix() for p in find_run_folders(tmp_path)]
    assert names == ["a", "b/seed0", "b/seed1"]


def test_a_finished_run(tmp_path):
    entry = read_one(write_entry(tmp_path / "run", make_config(seed=7)))
    assert (entry.state, entry.reason, entry.seed) == ("finished", "", "seed 7")
    assert entry.metrics["num_images"] == 8
    assert entry.dataset.label == "toy scenes, 8 images"
    assert entry.settings.iterations == 3
    assert len(entry.load().image_ids) == 8


def test_named_twice_it_counts_once(tmp_path):
    folder = write_entry(tmp_path / "run", make_config())
    entries, _ = read_entries([tmp_path, folder])
    assert len(entries) == 1


def test_an_unfinished_and_a_failed_run(tmp_path):
    unfinished = read_one(write_unfinished(tmp_path / "a", make_config()))
    assert (unfinished.state, unfinished.reason) == ("unfinished", "no DONE")
    failed = read_one(write_unfinished(tmp_path / "b", make_config(), error="error: no disk"))
    assert (failed.state, failed.reason) == ("failed", "error: no disk")
    assert failed.settings is not None


def test_a_study_that_still_runs_has_not_failed(tmp_path):
    folder = write_unfinished(tmp_path / "run", make_config(), error="epoch 3")
    write_text(folder / "attempts.json", json.dumps([12.5, None]))
    assert read_one(folder).state == "unfinished"


def test_what_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    no_config = write_entry(tmp_path / "no_config", make_config())
    (no_config / "config.yaml").unlink()
    torn = write_entry(tmp_path / "torn", make_config())
    write_text(torn / "config.yaml", "model: [1,")
    broken = write_entry(tmp_path / "broken", make_config())
    write_text(broken / "metrics.json", "{")
    no_pq = write_entry(tmp_path / "no_pq", make_config())
    write_text(no_pq / "metrics.json", "{}")
    paths = [tmp_path / "nowhere", tmp_path / "empty", no_config, torn, broken, no_pq]
    entries, problems = read_entries(paths)
    assert entries == []
    assert len(problems) == len(paths)
    words = ("no such folder", "no run in it", "no such file", "cannot be read", "no JSON", "no pq")
    for path, word, line in zip(paths, words, problems, strict=True):
        assert str(path) in line
        assert word in line
        assert "\n" not in line


@pytest.mark.parametrize("stage", ["occlusion", "ranking"])
def test_stages_that_train_heads_are_no_rows(tmp_path, stage):
    write_entry(tmp_path / "run", make_config())
    write_config(tmp_path / "run" / stage, {**make_config(), "stage": stage})
    write_text(tmp_path / "run" / stage / "metrics.json", '{"pair_accuracy_strong": 0.9}')
    write_text(tmp_path / "run" / stage / "DONE", "hash\n")
    assert read_one(tmp_path).folder == tmp_path / "run"


def test_an_evaluation_is_of_the_network_whose_predictions_it_read(tmp_path):
    cache = tmp_path / "cache"
    recorded = make_config(iterations=2, backbone="r50")
    write_text(cache / "header.json", json.dumps({"checkpoint": {"config": recorded}}))
    folder = write_entry(
        tmp_path / "run", make_evaluation(cache, iterations=0, cascade=False, relations=SOE)
    )
    entry = read_one(folder)
    assert (entry.settings.iterations, entry.settings.backbone) == (2, "r50")
    assert entry.settings.relation == "soft_occlusion"  # the fusion is its own
    assert entry.is_evaluation
    assert entry.cache == cache
    assert entry.seed == str(cache)


def test_an_evaluation_of_a_checkpoint_is_of_the_run_that_trained_it(tmp_path):
    trained = write_entry(tmp_path / "trained", make_config(iterations=1))
    config = make_evaluation(None) | {
        "predictions": None,
        "ckpt_path": str(trained / "checkpoints" / "last.ckpt"),
    }
    entry = read_one(write_entry(tmp_path / "evaluated", config))
    assert entry.settings.iterations == 1
    assert entry.cache is None


def test_an_evaluation_whose_predictions_are_gone_keeps_its_own_settings(tmp_path):
    entry = read_one(write_entry(tmp_path / "run", make_evaluation(tmp_path / "gone")))
    assert entry.settings.iterations == 3
    assert entry.cache is None


def test_datasets_contradict_in_what_both_tell(tmp_path):
    finished = read_one(write_entry(tmp_path / "a", make_config())).dataset
    waiting = read_one(write_unfinished(tmp_path / "b", make_config())).dataset
    coco = read_one(write_unfinished(tmp_path / "c", make_config(toy=False))).dataset
    fewer = read_one(write_entry(tmp_path / "d", make_config(), num_images=5)).dataset
    assert not finished.contradicts(waiting)
    assert finished.contradicts(coco)
    assert finished.contradicts(fewer)
    assert coco.is_coco
    assert not finished.is_coco


def test_the_fingerprint_leaves_out_seed_and_place(tmp_path):
    entries = [
        read_one(write_unfinished(tmp_path / str(k), config))
        for k, config in enumerate(
            (make_config(seed=1), make_config(seed=2), make_config(iterations=2))
        )
    ]
    prints = [entry.fingerprint for entry in entries]
    assert prints[0] == prints[1] != prints[2]
    assert prints[0]["schedule.max_steps"] == 300


def wandb_run(state="finished", config=None, **summary):
    return SimpleNamespace(
        id="a1", name="brave-sun", state=state, config=config or make_config(), summary=summary
    )


def test_runs_of_weights_and_biases():
    runs = [
        wandb_run(**{"val/pq": 0.1, "pq": 0.5, "val/pq_things": 0.4, "num_images": 8, "_step": 3}),
        wandb_run("crashed", **{"val/pq": 0.1}),
        wandb_run("running", **{"val/pq": 0.1}),
        wandb_run(),
        wandb_run(config={"lr": 3}),
        wandb_run(config=make_config() | {"stage": "occlusion"}),
    ]
    entries, problems = from_wandb(runs, "me/panoptic")
    assert [e.state for e in entries] == ["finished", "failed", "unfinished", "unfinished"]
    assert entries[0].metrics["pq"] == 0.5
    assert entries[0].metrics["pq_things"] == 0.4
    assert entries[0].dataset.label == "toy scenes, 8 images"
    assert "crashed" in entries[1].reason
    assert len(problems) == 1
    assert "names no network" in problems[0]
