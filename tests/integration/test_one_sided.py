"""Training and evaluation of datasets with things alone, or with one category."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from make.commands import train


@pytest.mark.parametrize("kind", ["things", "one category"])
def test_a_one_sided_dataset_is_trained_on_and_scored(toy_root, settings, tmp_path, kind):
    root = tmp_path / "data"
    shutil.copytree(toy_root, root)
    for split in ("train2017", "val2017"):
        _keep_things(root / "annotations", split, most=1 if kind == "one category" else 99)
    own = [o for o in settings if not o.startswith(("data.toy", "data.root"))]
    given = [*own, "data=coco_panoptic", f"data.root={root}", "data.batch_size=2"]
    metrics = train(tmp_path / "run", *given, "trainer=cpu", "trainer.max_steps=1")
    assert metrics["pq"] == metrics["pq_things"]
    assert metrics["pq_stuff"] == 0.0


def _keep_things(annotations, split, *, most):
    path = annotations / f"panoptic_{split}.json"
    content = json.loads(path.read_text())
    kept = [c for c in content["categories"] if c["isthing"]][:most]
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
