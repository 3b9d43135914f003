"""One's own data: parts that lie anywhere, settings chosen from the data, one call from Python."""

import json
import shutil

import pytest

from make.commands import run_main


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
