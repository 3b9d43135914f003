"""What README and docs show runs: Python, and the commands that need seconds, on a toy run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import refine
from make.commands import run_main
from make.pages import PAGES, commands, python_of, write_shown_files
from make.videos import SMALL, make_frames, write_video

WITH_FILES = ("ckpt_path", "predictions", "source", "instances", "semantic", "gt_json", "pred_json")
"""Settings that name what has to be there; ``convert_dataset`` has tests of its own."""


@pytest.fixture(scope="module")
def filled(run, toy_root, tmp_path_factory):
    """A folder with everything that the pages' commands read, under the pages' names."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "RUN").symlink_to(run)
    (folder / "coco.ckpt").symlink_to(run / "checkpoints" / "best.ckpt")
    annotations = toy_root / "annotations"
    (folder / "photos").mkdir()
    for path in [*toy_root.glob("train2017/*"), *toy_root.glob("val2017/*")]:
        (folder / "photos" / path.name).symlink_to(path)
    (folder / "photo.jpg").symlink_to(min(toy_root.glob("val2017/*")))
    write_video(folder / "clip.mp4", make_frames(6), **SMALL)
    for key, split in (("train", "train2017"), ("val", "val2017")):
        (folder / f"{key}.json").symlink_to(annotations / f"panoptic_{split}.json")
        (folder / f"{key}_png").symlink_to(annotations / f"panoptic_{split}")
    shutil.copytree(toy_root, folder / "my_data")
    for path in sorted((folder / "my_data").rglob("*2017*")):
        path.rename(path.with_name(path.name.replace("2017", "")))
    (folder / "panoptic_val2017.json").symlink_to(annotations / "panoptic_val2017.json")
    (folder / "panoptic_val2017").symlink_to(annotations / "panoptic_val2017")
    _write_results(folder, annotations)
    best = "ckpt_path=RUN/checkpoints/best.ckpt"
    assert not run_main("evaluate", best, "save_predictions=cache", cwd=folder)
    ids, source = "ids_from=panoptic_val2017.json", f"source={toy_root / 'val2017'}"
    assert not run_main("predict", best, source, ids, "out=predicted", cwd=folder)
    write_shown_files(folder)
    return folder


def _write_results(folder, annotations):
    """Result files as another network would leave them: the truth, in two halves."""
    instances = json.loads((annotations / "instances_val2017.json").read_text())["annotations"]
    keys = ("image_id", "category_id", "segmentation")
    found = [{k: a[k] for k in keys} | {"score": 0.9} for a in instances if not a["iscrowd"]]
    (folder / "segm.json").write_text(json.dumps(found))
    (folder / "semantic").mkdir()
    document = json.loads((annotations / "panoptic_val2017.json").read_text())
    for entry in document["annotations"]:
        png = Image.open(annotations / "panoptic_val2017" / entry["file_name"])
        ids = np.asarray(png).astype(int) @ [1, 256, 65536]
        labels = np.zeros(ids.shape, np.uint8)
        for segment in entry["segments_info"]:
            labels[ids == segment["id"]] = segment["category_id"]
        Image.fromarray(labels).save(folder / "semantic" / entry["file_name"])


@pytest.fixture
def here(filled, tmp_path, monkeypatch):
    """A copy of the folder, as the working folder."""
    folder = tmp_path / "here"
    shutil.copytree(filled, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def _is_there(name, arguments):
    """Whether the folder has what a command reads, going by the names that are in it."""
    if name not in ("evaluate", "predict", "fuse", "score", "export"):
        return False
    if any(a.startswith("sweep=") for a in arguments):  # which need heads, or many seconds
        return False
    values = dict(a.split("=", 1) for a in arguments if "=" in a)
    first = {Path(values[k]).parts[0] for k in WITH_FILES if k in values}
    known = {"RUN", "photos", "cache", "segm.json", "semantic", "predicted"}
    known |= {"panoptic_val2017.json", "photo.jpg", "clip.mp4"}
    return bool(first) and first <= known and "data.root" not in values


RUNNABLE = sorted({(name, *given) for name, given in commands() if _is_there(name, given)})


def test_many_commands_can_be_run():
    assert len(RUNNABLE) >= 12
    assert {name for name, *_ in RUNNABLE} == {"evaluate", "predict", "fuse", "score", "export"}


def _marked(value, name, text):
    """A case; compiling the network takes its time."""
    is_slow = ".onnx" in text or ".pt2" in text
    return pytest.param(value, id=name, marks=[pytest.mark.slow] * is_slow)


@pytest.mark.parametrize("command", [_marked(c, " ".join(c), " ".join(c)) for c in RUNNABLE])
def test_commands_run(here, command):
    assert run_main(*command, cwd=here) == 0


@pytest.mark.parametrize(
    "page", [_marked(p, p.name, "".join(python_of(p))) for p in PAGES if python_of(p)]
)
def test_python_runs(page, here, monkeypatch):
    """The blocks of a page, one after the other, with the names that they take for granted."""
    monkeypatch.syspath_prepend(here)
    model = refine.load("RUN/checkpoints/best.ckpt")
    ball = next(c for c in model.categories.categories if c.is_thing)
    height, width = np.asarray(Image.open("photo.jpg")).shape[:2]
    blank = np.zeros((height, width), int)
    names = {"images": torch.rand(1, 3, 96, 128)}
    names |= {"masks": [blank == 0], "scores": [0.9], "labels": [0], "semantic": blank + 255}
    names |= {
        "true_map": blank + 1,
        "true_segments": [{"id": 1, "category_id": ball.dataset_id, "area": blank.size}],
    }
    if any("dense.pt2" in block for block in python_of(page)):
        best = "ckpt_path=RUN/checkpoints/best.ckpt"
        assert not run_main("export", best, "out=dense.pt2", cwd=here)
    for block in python_of(page):
        exec(block, names)
