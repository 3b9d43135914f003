"""Predicted files, scored as files, are worth what the evaluation in memory says."""

import csv
import json

from refine.config import compose
from refine.predict import predict
from refine.score import score


def test_files_score_what_the_evaluation_counted(run, toy_root, tmp_path):
    overrides = [
        f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}", f"source={toy_root / 'val2017'}",
        f"out={tmp_path / 'out'}", "device=cpu",
    ]  # fmt: skip
    predict(compose("predict", overrides), overrides)
    assert len(list((tmp_path / "out" / "overlays").glob("*.png"))) == 5

    settings = [
        f"gt_json={toy_root / 'annotations' / 'panoptic_val2017.json'}",
        f"pred_json={tmp_path / 'out' / 'panoptic.json'}",
        f"pred_dir={tmp_path / 'out' / 'panoptic'}", f"out={tmp_path / 'scored'}",
    ]  # fmt: skip
    metrics = score(compose("score", settings))
    assert metrics["num_images"] == 5
    scored, evaluated = (
        list(csv.DictReader((folder / "per_category.csv").open()))
        for folder in (tmp_path / "scored", run)
    )
    assert scored == evaluated
    assert metrics["pq"] == json.loads((run / "metrics.json").read_text())["pq"]
