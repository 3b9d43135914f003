"""Bad input ends with one line that names the file and the fix; nothing is left half-written."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from make.commands import evaluate, run_main, start_process
from make.errors import refused

VAL_JSON = "annotations/panoptic_val2017.json"
VAL_IMAGE = "val2017/000010000001.jpg"
VAL_PNG = "annotations/panoptic_val2017/000010000001.png"


def _edit(change):
    def edit(path):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


def _cut(path):
    path.write_bytes(path.read_bytes()[:200])


def _resize(path):
    Image.new("RGB", (64, 64)).save(path)


def _first_segments(content):
    return content["annotations"][0]["segments_info"]


BREAKAGES = {  # file, what happens to it (bytes or JSON content), part of the message
    "missing PNG": (VAL_PNG, Path.unlink, "000010000001.png"),
    "missing JPEG": (VAL_IMAGE, Path.unlink, "000010000001.jpg"),
    "missing JSON": (VAL_JSON, Path.unlink, "panoptic_val2017"),
    "sizes differ": (VAL_IMAGE, _resize, "000010000001"),
    "cut JPEG": (VAL_IMAGE, _cut, "000010000001.jpg"),
    "cut PNG": (VAL_PNG, _cut, "000010000001.png"),
    "cut JSON": (VAL_JSON, _cut, "panoptic_val2017.json"),
    "id in JSON only": (
        VAL_JSON,
        _edit(lambda c: _first_segments(c).append({**_first_segments(c)[0], "id": 16_000_000})),
        "16000000",
    ),
    "id in PNG only": (VAL_JSON, _edit(lambda c: _first_segments(c).pop()), "000010000001"),
    "unknown category": (
        VAL_JSON, _edit(lambda c: _first_segments(c)[0].update(category_id=77)), "77",
    ),
    "duplicate image": (
        VAL_JSON, _edit(lambda c: c["images"].append(c["images"][0])), "10000001",
    ),
    "empty dataset": (
        VAL_JSON, _edit(lambda c: c.update(images=[], annotations=[])), "panoptic_val2017.json",
    ),
    "name outside the root": (
        VAL_JSON, _edit(lambda c: c["images"][0].update(file_name="../../out.jpg")), "out.jpg",
    ),
}  # fmt: skip


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_broken_dataset(best, toy_root, tmp_path, breakage):
    file, apply, expected = BREAKAGES[breakage]
    root = tmp_path / "broken"
    shutil.copytree(toy_root, root)
    apply(root / file)
    in_a_loader = "data.num_workers=1" if breakage == "cut PNG" else "data.num_workers=0"
    with refused(expected):
        evaluate(tmp_path / "run", best, f"data.root={root}", in_a_loader)
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert not (tmp_path / "run" / "DONE").exists()


def test_checkpoint_of_other_categories(best, toy_root, tmp_path):
    root = tmp_path / "other"
    shutil.copytree(toy_root, root)
    for name in (VAL_JSON, "annotations/instances_val2017.json"):
        _edit(lambda content: content["categories"][0].update(name="planet"))(root / name)
    with refused("'ball' (id 1) against 'planet' (id 1)"):
        evaluate(tmp_path / "run", best, f"data.root={root}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["missing", "empty", "junk", "cut"])
def test_bad_checkpoint(run, tmp_path, kind):
    path = tmp_path / "x.ckpt"
    if kind != "missing":
        whole = (run / "checkpoints" / "best.ckpt").read_bytes()
        path.write_bytes({"empty": b"", "junk": b"no checkpoint", "cut": whole[:100_000]}[kind])
    with refused("x.ckpt"):
        evaluate(tmp_path / "run", f"ckpt_path={path}")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.ibpp.num_iterations=1", ["model.ibpp.num_iterations=0, not 1"]),
        ("model.roi.cascade=true", ["model.roi.cascade=False, not True"]),
        ("model.ibpp.num_iterations=-1", ["ibpp.num_iterations=-1: expected a number in 0"]),
        ("model.loss_weights.roi_stages=[1.0,1.0]", ["roi_stages=", "expected 1 weights"]),
    ],
)
def test_checkpoint_of_another_network_is_named(best, tmp_path, override, words):
    with refused(*words):
        evaluate(tmp_path / "run", best, override)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "arguments", "expected"),
    [
        ("train", ["experiment=toy", "data.root=absent", "data=coco_panoptic"], "absent"),
        ("train", ["experiment=tyo"], "did you mean toy"),
        ("evaluate", ["ckpt_path=absent.ckpt"], "absent.ckpt"),
        ("evaluate", [], "ckpt_path"),
        ("predict", ["ckpt_path=absent.ckpt", "source=absent.jpg"], "absent.jpg"),
        ("score", ["gt_jsn=a", "pred_json=b"], "did you mean gt_json"),
        ("convert", ["source=absent.pkl", "out=o.safetensors"], "absent.pkl"),
        ("a process", ["gt_json=absent.json", "pred_json=absent.json"], "absent.json"),
    ],
)
def test_command_line_ends_with_one_line(tmp_path, capfd, command, arguments, expected):
    if command == "a process":
        done = start_process("score", *arguments, cwd=tmp_path)
        code, err = done.returncode, done.stderr
    else:
        code, err = run_main(command, *arguments, cwd=tmp_path), capfd.readouterr().err
    (line,) = err.strip().splitlines()
    assert code == 1
    assert line.startswith("error: ")
    assert expected in line
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_an_interrupted_command_says_so_in_one_line(tmp_path, capfd, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("torch.load", interrupt)
    (tmp_path / "x.ckpt").touch()
    assert run_main("evaluate", "ckpt_path=x.ckpt", cwd=tmp_path) == 130
    assert capfd.readouterr().err == "interrupted\n"


class _Dies(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, _):
        os.kill(os.getpid(), signal.SIGKILL)  # as a kernel that is out of memory does


class _Large(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, _):
        return np.empty(10**15)


def _exhaust_python():
    raise MemoryError


def _exhaust_the_gpu():
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB"
    )


@pytest.mark.parametrize(
    ("lack", "key", "reason", "fix"),
    [
        (lambda: [*DataLoader(_Dies(), num_workers=1)], "num_workers", "", "or smaller batches"),
        (lambda: torch.empty(10**15), "memory", "tried to allocate 4000000000000000 bytes", ""),
        (lambda: np.empty(10**15), "memory", "Unable to allocate", ""),
        (_exhaust_python, "memory", "MemoryError", ""),
        (lambda: [*DataLoader(_Large(), num_workers=1)], "memory", "MemoryError", ""),
        (_exhaust_the_gpu, "memory", "CUDA out of memory; ", "activation_checkpointing=true"),
    ],
    ids=["a killed process", "torch", "NumPy", "Python", "a worker process", "GPU"],
)
def test_what_the_machine_lacks_is_said_in_one_line(
    tmp_path, capfd, monkeypatch, lack, key, reason, fix
):
    monkeypatch.setattr("refine.workflows.evaluate_checkpoint.read_checkpoint", lambda _: lack())
    assert run_main("evaluate", "ckpt_path=x.ckpt", cwd=tmp_path) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: {key}: ")
    assert reason in line
    assert line.endswith(fix)
    assert len(line) <= 300
