"""Training and evaluation of datasets with things or stuff alone, or with one category."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from make.commands import train

IBPP = [
    "model.ibpp.num_iterations=2", "model.roi.cascade=true", "model.ibpp.mask_rois=final",
    "model.ibpp.canvas_false_positives=2", "model.ibpp.mask_rois_add_truth=true",
]  # fmt: skip


@pytest.fixture
def one_sided(toy_root, settings, tmp_path):
    """Trains on toy scenes with at most so many categories, which are things or stuff."""

    def _train(*overrides, is_thing, most):
        root = tmp_path / "data"
        shutil.copytree(toy_root, root)
        for split in ("train2017", "val2017"):
            _keep(root / "annotations", split, is_thing=is_thing, most=most)
        own = [o for o in settings if not o.startswith(("data.toy", "data.root"))]
        given = [*own, "data=coco_panoptic", f"data.root={root}", "data.batch_size=2"]
        return train(tmp_path / "run", *given, "trainer=cpu", *overrides)

    return _train


@pytest.mark.parametrize("model", [[], IBPP], ids=["plain", "ibpp"])
@pytest.mark.parametrize("most", [1, 99])
@pytest.mark.parametrize("side", ["things", "stuff"])
def test_a_one_sided_dataset_is_trained_on_and_scored(one_sided, side, most, model):
    metrics = one_sided("trainer.max_steps=1", *model, is_thing=side == "things", most=most)
    other = {"things": "stuff", "stuff": "things"}[side]
    assert metrics["pq"] == metrics[f"pq_{side}"]
    assert metrics[f"pq_{other}"] == 0.0


def test_stuff_alone_is_learned(one_sided):
    metrics = one_sided(
        "trainer.max_steps=30", "optimizer=adamw", "optimizer.lr=0.003", "compute_ap=false",
        "data.stuff_area_limit_px=64", is_thing=False, most=99,
    )  # fmt: skip
    assert metrics["pq_stuff"] > 0.05


def _keep(annotations, split, *, is_thing, most):
    path = annotations / f"panoptic_{split}.json"
    content = json.loads(path.read_text())
    kept = [c for c in content["categories"] if c["isthing"] == is_thing][:most]
    content["categories"] = kept
    for annotation in content["annotations"]:
        annotation["segments_info"] = [
            s for s in annotation["segments_info"] if s["category_id"] in {c["id"] for c in kept}
        ]
        png = annotations / f"panoptic_{split}" / annotation["file_name"]
        pixels = np.asarray(Image.open(png)).copy()
        ids = pixels @ np.array([1, 256, 65536])
        pixels[~np.isin(ids, [s["id"] for s in annotation["segments_info"]])] = 0
        Image.fromarray(pixels).save(png)
    path.write_text(json.dumps(content))
    (annotations / f"instances_{split}.json").unlink()
