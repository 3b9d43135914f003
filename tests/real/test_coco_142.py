"""The 142 photographs of ``data=coco_142`` and the rule that chose their categories."""

import json
from collections import Counter

import numpy as np
from PIL import Image

from make.dataset import write_png
from oracles.categories import relabel_files
from refine.config import compose
from refine.workflows.score_results import score_results


def test_categories_are_those_that_the_training_images_show_often(coco_root):
    data = compose("train", ["experiment=coco_mini", "run_dir=."]).data
    path = coco_root / "annotations" / "panoptic_train2017.json"
    document = json.loads(path.read_text())
    kinds = {c["id"]: (c["supercategory"], c["isthing"]) for c in document["categories"]}
    images = Counter()
    for annotation in document["annotations"]:
        if annotation["image_id"] in data.train_image_ids:
            shown = (s["category_id"] for s in annotation["segments_info"] if not s["iscrowd"])
            images.update({kinds[c] for c in shown})
    often = {name for (name, thing), count in images.items() if count >= (20 if thing else 10)}
    assert sorted(data.categories.keep) == sorted(often)
    assert len(data.train_image_ids) == 100
    assert len(data.val_image_ids) == 42


def _read(json_path, pngs):
    """The content of a JSON and its segment maps by name."""
    content = json.loads(json_path.read_text())
    maps = {}
    for annotation in content["annotations"]:
        pixels = np.asarray(Image.open(pngs / annotation["file_name"]), np.int32)
        maps[annotation["file_name"]] = pixels @ [1, 256, 256**2]
    return content, maps


def test_scores_in_these_categories_are_those_of_files_written_anew(
    coco_root, golden_root, tmp_path
):
    options = compose("train", ["experiment=coco_mini", "run_dir=."]).data.categories
    truth = coco_root / "annotations" / "panoptic_val2017.json"
    golden = golden_root / "pq" / "noisy"
    panoptic, maps = _read(truth, truth.with_suffix(""))
    groups = {}
    for category in panoptic["categories"]:
        if category["supercategory"] in options.keep:
            groups.setdefault(category["supercategory"], []).append(category["name"])
    predicted, pngs = _read(golden / "predictions.json", golden / "png")
    for annotation in predicted["annotations"]:
        for segment in annotation["segments_info"]:
            segment.update(iscrowd=0, area=0)
    predicted["categories"] = panoptic["categories"]
    for name, content in (("gt", (panoptic, maps)), ("pred", (predicted, pngs))):
        document, painted, _ = relabel_files(*content, groups)
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
        for file_name, ids in painted.items():
            write_png(tmp_path / name / file_name, ids)
    ours = score_results(
        truth, golden / "predictions.json", pred_dir=golden / "png", options=options
    )
    theirs = score_results(tmp_path / "gt.json", tmp_path / "pred.json")
    assert ours.metrics == theirs.metrics
    assert ours.rows == theirs.rows
    assert len(ours.rows) == 15
    assert score_results(truth, truth, options=options).metrics["pq"] == 1.0
