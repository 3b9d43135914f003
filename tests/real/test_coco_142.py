"""The 142 photographs of ``data=coco_142`` and the rule that chose their categories."""

import json
from collections import Counter

from refine.config import compose


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
