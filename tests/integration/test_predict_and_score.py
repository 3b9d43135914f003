"""The score of predicted files equals the evaluation in memory."""

import csv
import json

from make.commands import predict, score


def test_files_score_what_the_evaluation_counted(run, best, toy_root, tmp_path):
    predict(tmp_path / "out", best, f"source={toy_root / 'val2017'}")
    assert len(list((tmp_path / "out" / "overlays").glob("*.png"))) == 5

    metrics = score(
        tmp_path / "scored",
        f"gt_json={toy_root / 'annotations' / 'panoptic_val2017.json'}",
        f"pred_json={tmp_path / 'out' / 'panoptic.json'}",
        f"pred_dir={tmp_path / 'out' / 'panoptic'}",
    )
    assert metrics["num_images"] == 5
    scored, evaluated = (
        list(csv.DictReader((folder / "per_category.csv").open()))
        for folder in (tmp_path / "scored", run)
    )
    assert scored == evaluated
    assert metrics["pq"] == json.loads((run / "metrics.json").read_text())["pq"]
