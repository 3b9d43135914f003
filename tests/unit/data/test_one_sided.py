"""Datasets that lack things, stuff or segments: refused where nothing can be learnt, else used."""

import json
import logging

import numpy as np
import pytest

from make.dataset import panoptic_json, segment_maps, write_png, write_tree
from make.errors import refused
from refine.data.datamodule import PanopticDataModule
from refine.options import DataOptions


def _write(root, *, kept, categories=None):
    """Two splits with only the ``kept`` category ids in the maps (``categories`` in the list)."""
    content = panoptic_json()
    content["categories"] = [
        c for c in content["categories"] if c["id"] in (categories or [3, 17, 92, 187])
    ]
    for split in ("train2017", "val2017"):
        write_tree(root, split)
        folder = root / "annotations"
        for annotation, image in zip(content["annotations"], content["images"], strict=True):
            segments = annotation["segments_info"]
            annotation["segments_info"] = [s for s in segments if s["category_id"] in kept]
            ids = segment_maps()[image["id"]]
            ids[~np.isin(ids, [s["id"] for s in annotation["segments_info"]])] = 0
            write_png(folder / f"panoptic_{split}" / annotation["file_name"], ids)
        (folder / f"panoptic_{split}.json").write_text(json.dumps(content))
    return DataOptions(root=str(root), num_workers=0)


def _set_up(options, stage="fit"):
    module = PanopticDataModule(options, seed=0)
    module.setup(stage)
    return module


def test_without_a_thing_category_there_is_stuff_to_learn(tmp_path):
    module = _set_up(_write(tmp_path, kept=[92, 187], categories=[92, 187]))
    assert [len(module.val_dataset[k].truth.segments) for k in range(3)] == [1, 1, 0]
    target = module.train_dataset[0].target
    assert len(target.labels) == 0
    assert set(target.semantic.unique().tolist()) <= {0, 1, 255}


@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_no_segment_at_all_is_refused(tmp_path, stage):
    with refused("panoptic_val2017.json: none of the 3 images for evaluation has a segment"):
        _set_up(_write(tmp_path, kept=[]), stage)


def test_chosen_images_without_a_segment_are_refused(tmp_path):
    options = _write(tmp_path, kept=[3])
    options.train_image_ids = [2]
    with refused("panoptic_train2017.json: none of the 1 images for training has a segment"):
        _set_up(options)


@pytest.mark.parametrize(
    ("kept", "missing"), [([92, 187], "things"), ([3, 17], "stuff"), ([3, 92], None)]
)
def test_training_without_a_thing_or_stuff_is_warned_of(tmp_path, caplog, kept, missing):
    options = _write(tmp_path, kept=kept)
    with caplog.at_level(logging.WARNING):
        module = _set_up(options)
    warned = [r.getMessage() for r in caplog.records]
    assert [f"has {missing}: nothing to learn" in w for w in warned] == [True] * bool(missing)
    assert module.train_dataset[1].target.labels.tolist() == []


def test_a_single_category_is_a_dataset(tmp_path):
    module = _set_up(_write(tmp_path, kept=[3], categories=[3]))
    assert module.categories.num_things == len(module.categories) == 1
    assert module.train_dataset[2].target.labels.tolist() == [0]
