"""Converted datasets in all commands: Cityscapes with occlusion pairs, and category ids from 0."""

import csv
import json

import pytest

from make.commands import evaluate, predict, run_main, score, train
from make.layouts import (
    CITYSCAPES,
    OWN,
    label_map,
    rectangle_scenes,
    save_labels,
    write_cityscapes,
    write_label_pngs,
)
from refine.config import compose
from refine.workflows.check_dataset import check
from refine.workflows.convert_annotations import convert_dataset

SMALL = [
    "weights=none", "model.backbone.name=r18", "model.backbone.frozen_stages=5",
    "model.backbone.norm=gn", "model.backbone.fpn_channels=32",
    "model.roi.samples_per_image=16", "model.roi.box_fc_channels=32",
    "model.roi.mask_channels=32", "model.roi.mask_convs=1", "model.roi.max_detections=20",
    "data.num_workers=0", "data.batch_size=2", "data.anchors.sizes_px=[16,32,64,128,256]",
    "data.image.train_short_sides_px=[64]", "data.image.eval_short_side_px=64",
    "data.image.max_long_side_px=128", "data.stuff_area_limit_px=16",
    "trainer=cpu", "trainer.max_steps=2", "trainer.limit_val_batches=1.0",
    "trainer.enable_progress_bar=false",
    "callbacks.progress=null",
]  # fmt: skip


def convert(*overrides):
    assert convert_dataset(compose("convert_dataset", overrides)) == 0


def test_cityscapes_trains_its_experiment_with_pairs_out_of_the_polygons(tmp_path):
    for split, seed in (("train", 0), ("val", 1)):
        scenes = rectangle_scenes(seed, count=6)
        write_cityscapes(tmp_path / "cityscapes", scenes, split)
        root = f"root={tmp_path}/cityscapes"
        convert("from=cityscapes", root, f"out={tmp_path}/data", f"split={split}")
    data = ["data=cityscapes", f"data.root={tmp_path}/data"]
    assert check(compose("check", data)) == 0
    metrics = train(
        tmp_path / "run", "experiment=cityscapes_r50_refine", *data[1:], *SMALL,
        "data.image.crop_px=[48,64]", "data.image.eval_max_long_side_px=128",
        "occlusion.schedule.max_steps=2", "occlusion.batch_size=2",
    )  # fmt: skip
    assert {"pq", "ap_mask"} <= metrics.keys()
    rows = [*csv.DictReader((tmp_path / "run" / "per_category.csv").open())]
    assert len(rows) == 19
    assert [int(row["isthing"]) for row in rows] == [1] * 8 + [0] * 11
    counted = {row["name"]: int(row["tp"]) + int(row["fn"]) for row in rows}
    true = [name for scene in scenes for name, crowd, _ in scene.count() if not crowd]
    assert counted == dict.fromkeys(counted, 0) | {name: true.count(name) for name in CITYSCAPES}
    pairs = json.loads((tmp_path / "data/annotations/occlusion_pairs_train.json").read_text())
    assert sum(map(len, pairs["pairs"])) > 0


@pytest.fixture(scope="module")
def from_zero(tmp_path_factory):
    """Photos with ids 0 (stuff), 1, 2 and 7; a network that was trained on them for two steps."""
    home = tmp_path_factory.mktemp("zero")
    scenes = rectangle_scenes(0, count=4)
    write_label_pngs(home, scenes)
    folders = {"semantic": "SegmentationClass", "instances": "SegmentationObject"}
    folders |= {"images": "JPEGImages", "table": "table.csv"}
    given = [f"{key}={home}/{name}" for key, name in folders.items()]
    for split in ("train", "val"):
        convert("from=label_pngs", *given, f"out={home}/data", f"split={split}")
    data = ["data=custom_panoptic", f"data.root={home}/data"]
    assert check(compose("check", data)) == 0
    train(home / "run", "experiment=toy_ibpp1", *data, *SMALL)
    return home, scenes


def test_training_and_evaluation_know_category_0(from_zero, tmp_path):
    home, scenes = from_zero
    for run in (home / "run", tmp_path / "again"):
        if run.name == "again":
            evaluate(run, f"ckpt_path={home}/run/checkpoints/last.ckpt")
        rows = {row["name"]: row for row in csv.DictReader((run / "per_category.csv").open())}
        assert {name: int(row["category_id"]) for name, row in rows.items()} == {
            name: number for name, (number, *_) in OWN.items()
        }
        counts = [int(rows["sky"][name]) for name in ("tp", "fn")]
        assert sum(counts) == len(scenes)
        images = [*csv.DictReader((run / "per_image.csv").open())]
        assert sum(int(row["category_id"]) == 0 for row in images) == len(scenes)


def test_prediction_and_score_know_category_0(from_zero, tmp_path):
    home, scenes = from_zero
    truth = home / "data/annotations/panoptic_val.json"
    photos = f"source={home}/data/val"
    found = predict(
        tmp_path / "out", f"ckpt_path={home}/run/checkpoints/last.ckpt", photos,
        f"ids_from={truth}",
    )  # fmt: skip
    document = json.loads((found / "panoptic.json").read_text())
    assert [c["id"] for c in document["categories"]] == [2, 7, 0, 1]
    score(tmp_path / "a", f"gt_json={truth}", f"pred_json={found}/panoptic.json",
          f"pred_dir={found}/panoptic")  # fmt: skip
    metrics = score(tmp_path / "b", f"gt_json={truth}", f"pred_json={truth}")
    assert metrics["pq"] == 1
    rows = [*csv.DictReader((tmp_path / "b" / "per_category.csv").open())]
    assert {int(r["category_id"]): int(r["tp"]) for r in rows}[0] == len(scenes)


def test_fusion_knows_category_0(from_zero, tmp_path):
    home, scenes = from_zero
    truth = home / "data/annotations/panoptic_val.json"
    for scene in scenes:  # stuff alone: 0 is the sky, and 255 void
        path = tmp_path / "semantic" / f"{scene.stem}.png"
        save_labels(path, label_map(scene, OWN), kind="grey", table=OWN)
    (tmp_path / "instances.json").write_text("[]")
    given = ["instances=instances.json", "semantic=semantic", f"gt_json={truth}", "out=fused"]
    arguments = [*given, "stuff_area_limit_px=1"]
    assert run_main("fuse", *arguments, cwd=tmp_path) == 0
    document = json.loads((tmp_path / "fused/panoptic.json").read_text())
    for scene, annotation in zip(
        sorted(scenes, key=lambda s: s.stem), document["annotations"], strict=True
    ):
        areas = {s["category_id"]: s["area"] for s in annotation["segments_info"]}
        assert areas == {
            OWN[name][0]: int((scene.stuff == name).sum()) for name in ("sky", "vegetation")
        }
