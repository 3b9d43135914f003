import json
import locale
from types import SimpleNamespace

from make.runs import make_config, make_evaluation, write_entry, write_unfinished
from refine.atomic import write_text
from refine.report.collect import from_wandb, on_dataset, read_runs
from refine.runs.run_folder import RunFolder


def read_one(path):
    runs, problems = read_runs([path])
    assert problems == []
    assert len(runs) == 1
    return runs.iloc[0]


def test_runs_are_found_below_a_folder_and_count_once(tmp_path):
    for name in ("b/seed0", "b/seed1", "a"):
        write_entry(tmp_path / name, make_config())
    write_text(tmp_path / "a" / "checkpoints" / "config.yaml", "no run")
    for stage in ("occlusion", "ranking"):  # heads have no panoptic quality
        RunFolder(tmp_path / "a" / stage).write_config({**make_config(), "stage": stage})
        write_text(tmp_path / "a" / stage / "DONE", "hash\n")
    runs, problems = read_runs([tmp_path, tmp_path / "a"])
    assert runs["folder"].tolist() == [tmp_path / name for name in ("a", "b/seed0", "b/seed1")]
    assert problems == []


def test_links_are_followed_once(tmp_path):
    write_entry(tmp_path / "elsewhere" / "seed0", make_config())
    study = tmp_path / "study"
    study.mkdir()
    for name, target in (("first", "elsewhere/seed0"), ("all", "elsewhere"), ("round", "study")):
        (study / name).symlink_to(tmp_path / target)
    assert read_one(study)["folder"] == study / "all" / "seed0"


def test_a_finished_and_an_unfinished_run(tmp_path):
    run = read_one(write_entry(tmp_path / "run", make_config(seed=7)))
    assert (run["state"], run["reason"], run["seed"]) == ("finished", "", "seed 7")
    assert (run["kind"], run["dataset"]) == ("training", "toy scenes, 8 images")
    assert run["model.ibpp.num_iterations"] == 3
    assert run["pq"] == json.loads((tmp_path / "run" / "metrics.json").read_text())["pq"]
    run = read_one(write_unfinished(tmp_path / "other", make_config()))
    assert (run["state"], run["reason"]) == ("unfinished", "no DONE")


def test_categories_are_read_where_the_locale_is_not_utf_8(tmp_path):
    write_entry(tmp_path, make_config())
    table = tmp_path / "per_category.csv"
    write_text(table, table.read_text().replace("c0", "Straße"))
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    try:
        assert "Straße" in read_one(tmp_path)["categories"]
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def test_what_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    names = ("no_config", "torn", "broken", "no_pq")
    folders = [write_entry(tmp_path / name, make_config()) for name in names]
    (folders[0] / "config.yaml").unlink()
    write_text(folders[1] / "config.yaml", "model: [1,")
    write_text(folders[2] / "metrics.json", "{")
    write_text(folders[3] / "metrics.json", "{}")
    paths = [tmp_path / "nowhere", tmp_path / "empty", *folders]
    runs, problems = read_runs(paths)
    assert runs.empty
    words = ("no such folder", "no run in it", "no such file", "cannot be read", "no JSON", "no pq")
    for path, word, line in zip(paths, words, problems, strict=True):
        assert str(path) in line
        assert word in line
        assert "\n" not in line


def test_an_evaluation_has_the_network_of_its_cache_or_checkpoint(tmp_path):
    network = make_config(iterations=1, seed=5)
    header = {"checkpoint": {"config": network, "seed": 5}}
    write_text(tmp_path / "cache" / "header.json", json.dumps(header))
    config = make_evaluation(tmp_path / "cache", iterations=3, erasing={"mode": "score"})
    run = read_one(write_entry(tmp_path / "run", config))
    assert (run["kind"], run["seed"], run["cache"]) == ("evaluation", "seed 5", tmp_path / "cache")
    assert run["model.ibpp.num_iterations"] == run["config"]["model"]["ibpp"]["num_iterations"] == 1
    assert run["fusion.unknown_erasing.mode"] == "score"
    baseline = {**config, "from_baseline": True, "baseline_predictions": str(tmp_path / "gone")}
    run = read_one(write_entry(tmp_path / "other", baseline))
    assert (run["seed"], run["cache"]) == (str(tmp_path / "gone"), None)
    RunFolder(tmp_path / "net").write_config(make_config(iterations=2, seed=3))
    checkpoint = {"predictions": None, "ckpt_path": f"{tmp_path}/net/checkpoints/last.ckpt"}
    run = read_one(write_entry(tmp_path / "third", make_evaluation(None) | checkpoint))
    assert (run["model.ibpp.num_iterations"], run["seed"], run["cache"]) == (2, "seed 3", None)


def test_datasets_differ_in_what_both_tell(tmp_path):
    crowded, older = make_config(), make_config()
    crowded["data"]["toy"]["crowded"] = True
    del older["data"]["toy"]["crowded"]  # recorded before there was a choice
    write_entry(tmp_path / "a", make_config())
    write_unfinished(tmp_path / "b", make_config())
    write_unfinished(tmp_path / "c", make_config(toy=False))
    write_entry(tmp_path / "d", make_config(), num_images=5)
    write_entry(tmp_path / "e", crowded)
    write_entry(tmp_path / "f", older)
    runs, _ = read_runs([tmp_path])
    assert on_dataset(runs, runs.iloc[0]).tolist() == [True, True, False, False, False, True]
    assert runs["is_coco"].tolist() == [False, False, True, False, False, False]


def test_seed_and_place_are_no_settings_and_deformable_layers_another_backbone(tmp_path):
    configs = [make_config(seed=1), make_config(seed=2), make_config(iterations=2)]
    configs[1]["data"]["root"] = "elsewhere"
    names = {"r101": (), "r101-dcn": (2, 3, 4), "x101_64x4d": ()}
    configs += [make_config(backbone=n.partition("-")[0], dcn=dcn) for n, dcn in names.items()]
    for k, config in enumerate(configs):
        write_unfinished(tmp_path / str(k), config)
    runs, _ = read_runs([tmp_path])
    assert runs["configuration"].tolist() == [0, 0, 1, 2, 3, 4]
    assert runs["schedule.max_steps"].tolist() == [300] * 6
    assert runs["backbone"].tolist() == ["r18", "r18", "r18", "r101", "r101-dcn", "x101"]


WANDB = (
    ("finished", make_config(), {"val/pq": 0.1, "pq": 0.5, "val/pq_things": 0.4, "_s": 3}),
    ("crashed", make_config(), {"val/pq": 0.1}),
    ("running", make_config(), {"val/pq": 0.1}),
    ("finished", make_config(), {}),
    ("finished", {"lr": 3}, {}),
    ("finished", make_config() | {"stage": "occlusion"}, {}),
)


def test_runs_of_weights_and_biases():
    names = ("state", "config", "summary")
    found = [SimpleNamespace(id="a1", name="n", **dict(zip(names, r, strict=True))) for r in WANDB]
    runs, (problem,) = from_wandb(found, "me/panoptic")
    assert runs["state"].tolist() == ["finished", "failed", "unfinished", "unfinished"]
    assert (runs["pq"][0], runs["pq_things"][0]) == (0.5, 0.4)
    assert "crashed" in runs["reason"][1]
    assert "names no network" in problem
