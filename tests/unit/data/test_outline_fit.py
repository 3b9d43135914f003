import logging

import pytest

from make.dataset import instances_json, write_tree
from make.errors import refused
from refine.data.datamodule import PanopticDataModule
from refine.options import DataOptions


def _set_up(root):
    options = DataOptions(root=str(root), train_split="s", val_split="s", num_workers=0)
    PanopticDataModule(options, seed=0).setup("fit")


def _move(annotation, by):
    annotation["segmentation"] = [[v + by for v in p] for p in annotation["segmentation"]]
    annotation["bbox"][:2] = [v + by for v in annotation["bbox"][:2]]


@pytest.mark.parametrize(
    ("shifts", "count"),
    [  # of the car (its segment has 12 pixels), the cat (15) and the big car (25)
        ({0: 1}, 1),  # 5 pixels are left
        ({0: -1}, 0),  # 8
        ({3: 1}, 0),  # 16
        ({1: 2, 3: 4}, 2),
    ],
)
def test_segments_need_an_outline_over_half_of_them(tmp_path, caplog, shifts, count):
    content = instances_json()
    for k, by in shifts.items():
        _move(content["annotations"][k], by)
    root = write_tree(tmp_path, "s", instances=content)
    if count:
        with refused("instances_s.json", f"{count} of 3 segments of things have no outline"):
            _set_up(root)
    else:
        with caplog.at_level(logging.WARNING):
            _set_up(root)
        assert caplog.text == ""
