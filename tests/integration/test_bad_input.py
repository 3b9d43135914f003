"""Bad input ends with one line that names the file and the mend; nothing is left half-written."""

import json
import shutil
import subprocess
import sys

import pytest

from refine.config import compose
from refine.errors import RefineError
from refine.evaluate import evaluate
from refine.predict import predict

VAL_JSON = "annotations/panoptic_val2017.json"
VAL_IMAGE = "val2017/000010000001.jpg"
VAL_PNG = "annotations/panoptic_val2017/000010000001.png"


def _edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _cut(path):
    path.write_bytes(path.read_bytes()[:200])


def _duplicate_image(content):
    content["images"].append(content["images"][0])


def _unknown_category(content):
    content["annotations"][0]["segments_info"][0]["category_id"] = 77


def _extra_segment(content):
    segments = content["annotations"][0]["segments_info"]
    segments.append({**segments[0], "id": 16_000_000})


def _missing_segment(content):
    content["annotations"][0]["segments_info"].pop()


def _empty(content):
    content["images"] = content["annotations"] = []


def _escape(content):
    content["images"][0]["file_name"] = "../../outside.jpg"


def _resize_jpeg(root):
    from PIL import Image

    Image.new("RGB", (64, 64)).save(root / VAL_IMAGE)


BREAKAGES = {
    "missing PNG": (lambda r: (r / VAL_PNG).unlink(), "000010000001.png"),
    "missing JPEG": (lambda r: (r / VAL_IMAGE).unlink(), "000010000001.jpg"),
    "missing JSON": (lambda r: (r / VAL_JSON).unlink(), "panoptic_val2017"),
    "sizes differ": (_resize_jpeg, "000010000001"),
    "id in JSON only": (lambda r: _edit(r / VAL_JSON, _extra_segment), "16000000"),
    "id in PNG only": (lambda r: _edit(r / VAL_JSON, _missing_segment), "000010000001"),
    "unknown category": (lambda r: _edit(r / VAL_JSON, _unknown_category), "77"),
    "duplicate image": (lambda r: _edit(r / VAL_JSON, _duplicate_image), "10000001"),
    "cut JPEG": (lambda r: _cut(r / VAL_IMAGE), "000010000001.jpg"),
    "cut PNG": (lambda r: _cut(r / VAL_PNG), "000010000001.png"),
    "cut JSON": (lambda r: _cut(r / VAL_JSON), "panoptic_val2017.json"),
    "empty dataset": (lambda r: _edit(r / VAL_JSON, _empty), "panoptic_val2017.json"),
    "name outside the root": (lambda r: _edit(r / VAL_JSON, _escape), "outside.jpg"),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_broken_dataset(run, toy_root, tmp_path, breakage):
    root = tmp_path / "broken"
    shutil.copytree(toy_root, root)
    apply, expected = BREAKAGES[breakage]
    apply(root)
    overrides = [
        f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}", f"data.root={root}", "trainer=cpu",
        f"run_dir={tmp_path / 'run'}", "trainer.enable_progress_bar=false", "data.num_workers=1",
    ]  # fmt: skip
    with pytest.raises(RefineError, match=expected) as caught:
        evaluate(compose("evaluate", overrides), overrides)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert not (tmp_path / "run" / "DONE").exists()


def test_checkpoint_of_other_categories(run, toy_root, tmp_path):
    root = tmp_path / "other"
    shutil.copytree(toy_root, root)
    for name in (VAL_JSON, "annotations/instances_val2017.json"):
        _edit(root / name, lambda content: content["categories"][0].update(name="planet"))
    overrides = [
        f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}", f"data.root={root}",
        f"run_dir={tmp_path / 'run'}",
    ]  # fmt: skip
    with pytest.raises(RefineError, match=r"'ball' \(id 1\) against 'planet' \(id 1\)"):
        evaluate(compose("evaluate", overrides), overrides)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint"], ids=["missing", "empty", "junk"])
def test_bad_checkpoint(tmp_path, content):
    path = tmp_path / "x.ckpt"
    if content is not None:
        path.write_bytes(content)
    overrides = [f"ckpt_path={path}", f"run_dir={tmp_path / 'run'}"]
    with pytest.raises(RefineError, match=r"x\.ckpt"):
        evaluate(compose("evaluate", overrides), overrides)


def test_cut_checkpoint(run, tmp_path):
    path = tmp_path / "cut.ckpt"
    path.write_bytes((run / "checkpoints" / "best.ckpt").read_bytes()[:100_000])
    overrides = [f"ckpt_path={path}", f"run_dir={tmp_path / 'run'}"]
    with pytest.raises(RefineError, match=r"cut\.ckpt: not a readable checkpoint"):
        evaluate(compose("evaluate", overrides), overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.ibpp.num_iterations=1", r"model\.ibpp\.num_iterations=0, not 1"),
        ("model.roi.cascade=true", r"model\.roi\.cascade=False, not True"),
        ("model.ibpp.num_iterations=-1", r"ibpp\.num_iterations=-1: expected 0"),
        ("model.loss_weights.roi_stages=[1.0,1.0]", r"roi_stages=.*expected 1 weights"),
    ],
)
def test_checkpoint_of_another_network_is_named(run, tmp_path, override, message):
    overrides = [
        f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}", f"run_dir={tmp_path / 'run'}", override,
    ]  # fmt: skip
    with pytest.raises(RefineError, match=message) as error:
        evaluate(compose("evaluate", overrides), overrides)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_predict_nothing(run, tmp_path):
    overrides = [
        f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}", f"source={tmp_path}",
        f"out={tmp_path / 'out'}",
    ]  # fmt: skip
    with pytest.raises(RefineError, match="no images there"):
        predict(compose("predict", overrides), overrides)


@pytest.mark.parametrize(
    ("command", "arguments", "expected"),
    [
        ("train", ["experiment=toy", "data.root=absent", "data=coco_panoptic"], "absent"),
        ("train", ["experiment=tyo"], "did you mean toy"),
        ("evaluate", ["ckpt_path=absent.ckpt"], "absent.ckpt"),
        ("evaluate", [], "ckpt_path"),
        ("predict", ["ckpt_path=absent.ckpt", "source=absent.jpg"], "absent.jpg"),
        ("score", ["gt_json=absent.json", "pred_json=absent.json"], "absent.json"),
        ("score", ["gt_jsn=a", "pred_json=b"], "did you mean gt_json"),
        ("convert", ["source=absent.pkl", "out=o.safetensors"], "absent.pkl"),
    ],
)
def test_command_line_ends_with_one_line(tmp_path, command, arguments, expected):
    done = subprocess.run(
        [sys.executable, "-m", f"refine.{command}", *arguments],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert expected in lines[0]
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_an_interrupted_command_says_so_in_one_line(tmp_path):
    code = (
        "import sys, refine.train as command\n"
        "def train(cfg): raise KeyboardInterrupt\n"
        "command.train = train\n"
        "sys.argv = ['train', 'experiment=toy']\n"
        "command.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
