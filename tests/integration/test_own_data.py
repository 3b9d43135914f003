"""One's own data: parts that lie anywhere, settings chosen from the data, one call from Python."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import refine
from make.commands import run_main, steps_of, train
from make.errors import refused
from refine.config.flatten import flatten
from refine.options import ToyOptions
from refine.toy.dataset import write_toy_dataset
from refine.training.detector_module import DetectorModule


@pytest.fixture(scope="module")
def scattered(toy_root, tmp_path_factory):
    """The toy scenes in folders of one's own; the settings that say where."""
    home = tmp_path_factory.mktemp("my data (1), é=#")
    settings = ["data.root=absent"]
    for key, split in (("train", "train2017"), ("val", "val2017")):
        annotations = toy_root / "annotations"
        shutil.copytree(toy_root / split, home / f"photos {key}")
        shutil.copytree(annotations / f"panoptic_{split}", home / f"{key}'s masks")
        shutil.copy(annotations / f"panoptic_{split}.json", home / f"{key}.json")
        shutil.copy(annotations / f"instances_{split}.json", home / f"{key}_instances.json")
        parts = {
            "images": f"photos {key}", "masks": f"{key}'s masks", "annotations": f"{key}.json",
            "instances": f"{key}_instances.json",
        }  # fmt: skip
        settings += [f"data.{key}.{part}={home / name}" for part, name in parts.items()]
    return settings


def test_parts_anywhere_train_and_check_as_those_in_cocos_layout(settings, scattered, tmp_path):
    short = ["trainer.max_steps=2", "trainer=cpu", "trainer.enable_progress_bar=false"]
    without_toy = [s for s in settings if not s.startswith(("data.toy", "data.root"))]
    here = [*settings, *short, "hydra.run.dir=here"]
    there = [*without_toy, "data=custom_panoptic", "data.stuff_area_limit_px=64", *scattered]
    anchors = "data.anchors.sizes_px=[16,32,64,128,256]"
    assert not run_main("train", *here, cwd=tmp_path)
    assert not run_main("train", *there, anchors, *short, "hydra.run.dir=there", cwd=tmp_path)
    ours, theirs = (
        json.loads((tmp_path / k / "metrics.json").read_text()) for k in ("here", "there")
    )
    del ours["images_per_second"], theirs["images_per_second"]
    assert ours == theirs
    assert not run_main("check", "data=custom_panoptic", *scattered, cwd=tmp_path)


def _as_data(scattered):
    """``data=`` of :func:`refine.fit`."""
    data = {"train": {}, "val": {}}
    for key, _, value in (setting.partition("=") for setting in scattered):
        _, split, *part = key.split(".")
        if part:
            data[split][part[0]] = value
    return data


def test_fit_trains_from_python_and_again_loads_what_is_there(settings, scattered, tmp_path):
    network = [s for s in settings if s.startswith(("model.", "trainer.", "callbacks."))]
    own = ["model.backbone.name=r18", "model.backbone.norm=gn", "weights=none", "trainer=cpu"]
    short = ["trainer.max_steps=2", "data.num_workers=0", "compute_ap=false"]
    given = {
        "out": tmp_path / "a run (1), é=", "data": _as_data(scattered),
        "overrides": [*network, *own, *short],
    }  # fmt: skip
    model = refine.fit(**given)
    assert [c.name for c in model.categories.categories][:2] == ["ball", "crate"]
    photo = min(Path(given["data"]["val"]["images"]).iterdir())
    again = refine.load(given["out"] / "checkpoints" / "best.ckpt").predict(photo)
    assert (model.predict(photo).segment_map == again.segment_map).all()
    config = yaml.safe_load((given["out"] / "config.yaml").read_text())
    assert config["data"]["image"]["eval_short_side_px"] == 128
    assert config["data"]["batch_size"] == 1
    with steps_of(DetectorModule) as steps:
        refine.fit(**given)
    assert steps == []  # it has finished before
    with refused("val.nonsense: no such setting"):
        refine.fit(**given | {"data": {"val": {"nonsense": 1}}})


def _rename(root, changes, *, new, of, area_px):
    """Rename categories of toy scenes, and make a new one of the larger things of another."""
    for path in (root / "annotations").glob("*.json"):
        content = json.loads(path.read_text())
        ids = {c["name"]: c["id"] for c in content["categories"]}
        for category in content["categories"]:
            category["name"] = changes.get(category["name"], category["name"])
        content["categories"].append({"id": 77, "name": new, "isthing": 1, "color": [9, 9, 9]})
        entries = content["annotations"]
        for entry in entries if path.name.startswith("instances") else _segments(entries):
            if entry["category_id"] == ids[of] and entry["area"] > area_px:
                entry["category_id"] = 77
        path.write_text(json.dumps(content))


def _segments(annotations):
    return [segment for a in annotations for segment in a["segments_info"]]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_finetuning_on_other_categories_beats_random_weights(tmp_path, capsys):
    """Two categories renamed and a new one; the same data, steps and seed."""
    source = ToyOptions(version=2, num_train=128, num_val=10)
    write_toy_dataset(tmp_path / "old", source)
    write_toy_dataset(tmp_path / "new", replace(source, seed=1, num_train=64, num_val=50))
    (tmp_path / "new" / "annotations" / "instances_train2017.json").unlink()
    (tmp_path / "new" / "annotations" / "instances_val2017.json").unlink()
    _rename(tmp_path / "new", {"ball": "globe", "sky": "heaven"}, new="hut", of="tent", area_px=900)
    quiet = ["trainer.enable_progress_bar=false", "callbacks.progress=null", "compute_ap=false"]
    old = [f"data.root={tmp_path / 'old'}", "data.toy.num_train=128", "data.toy.num_val=10"]
    train(tmp_path / "a", "experiment=toy", *old, *quiet, "trainer.max_steps=300")
    start = tmp_path / "a" / "checkpoints" / "last.ckpt"
    capsys.readouterr()
    given = [
        "experiment=finetune", f"data.root={tmp_path / 'new'}", "data.train_split=train2017",
        "data.val_split=val2017", "data.batch_size=4", "data.num_workers=0", "trainer=cpu",
        "trainer.max_steps=100", "trainer.val_check_interval=100", *quiet,
    ]  # fmt: skip
    tuned = train(tmp_path / "b", *given, f"weights={start}")
    said = capsys.readouterr().out
    assert "categories by name: 9 of 12 (crate, tent, star, moon, pill, water, meadow," in said
    assert "at random: globe, hut, heaven" in said
    network = [f"model.{k}={v}" for k, v in _network_of(tmp_path / "a")]
    plain = train(tmp_path / "c", *given, "weights=none", *network)
    assert tuned["pq"] > plain["pq"]


def _network_of(run_dir):
    """The settings of a run's network."""
    config = yaml.safe_load((run_dir / "config.yaml").read_text())["model"]
    config["backbone"]["frozen_stages"] = 0
    values = ((k, "null" if v is None else v) for k, v in flatten(config).items())
    return [(k, str(v).replace(" ", "")) for k, v in values]
