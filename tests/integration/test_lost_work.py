"""Signals, full disks, broken files, two runs in one folder: no work is lost, nothing is mixed."""

import json
import os
import shlex
import shutil
import signal

import pytest
import torch
from PIL import Image

from make.commands import predict, run_main, steps_of
from make.errors import refused
from refine.runs.folder_lock import lock_folder
from refine.training.detector_module import DetectorModule

FOUR = [
    "trainer=cpu", "trainer.max_steps=4", "trainer.val_check_interval=4", "compute_ap=false",
    "trainer.limit_val_batches=1", "callbacks.best=null",
]  # fmt: skip


def _weights(run_dir):
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def unbroken(start, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("unbroken")
    start(run_dir, *FOUR)
    return run_dir


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_training_after_the_step_and_says_how_to_go_on(
    settings, unbroken, tmp_path, monkeypatch, capfd, number, code
):
    original = DetectorModule.training_step

    def training_step(self, batch, batch_idx):
        if self.global_step == 2 and not (tmp_path / "hit").exists():
            (tmp_path / "hit").touch()
            os.kill(os.getpid(), number)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(DetectorModule, "training_step", training_step)
    assert run_main("train", *settings, *FOUR, cwd=tmp_path) == code
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("interrupted; to go on: python -m refine.train ")
    with steps_of(DetectorModule) as steps:
        words = shlex.split(line.split("refine.train ")[1])
        assert run_main("train", *words, cwd=tmp_path) == 0
    assert steps == [3]  # the whole third step was saved
    (run_dir,) = (tmp_path / "runs" / "train").iterdir()
    whole, resumed = _weights(unbroken), _weights(run_dir)
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_a_broken_last_checkpoint_costs_the_steps_since_the_one_before(start, unbroken, tmp_path):
    with steps_of(DetectorModule, cut_at=3):
        start(tmp_path, *FOUR, "callbacks.last.every_n_train_steps=1")
    last = tmp_path / "checkpoints" / "last.ckpt"
    shutil.copy(last, last.with_name("older.ckpt"))
    last.write_bytes(last.read_bytes()[:1000])
    (last.parent / ".last.ckpt.0.part").touch()  # of a killed process
    with steps_of(DetectorModule) as steps:
        start(tmp_path, *FOUR, "callbacks.last.every_n_train_steps=1")
    assert steps == [3]
    whole, resumed = _weights(unbroken), _weights(tmp_path)
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    assert not [*tmp_path.rglob("*.part")]


def test_a_finished_folder_takes_no_other_run_and_is_not_trained_again(
    start, unbroken, tmp_path, capsys
):
    before = {p: p.stat().st_mtime_ns for p in unbroken.rglob("*")}
    with refused(f"{unbroken} holds a run with another seed"):
        start(unbroken, *FOUR, "seed=1")
    last = unbroken / "checkpoints" / "last.ckpt"
    into = [f"ckpt_path={last}", f"hydra.run.dir={unbroken}"]
    assert run_main("evaluate", *into, cwd=tmp_path) == 1
    assert "holds a run with another setting" in capsys.readouterr().err
    with steps_of(DetectorModule) as steps, lock_folder(unbroken):
        metrics = start(tmp_path / "new", *FOUR, f"ckpt_path={last}")
        with refused("another process is running in this folder"):
            start(unbroken, *FOUR)
    assert metrics == start(unbroken, *FOUR) == json.loads((unbroken / "metrics.json").read_text())
    assert "nothing left to train after step 4" in capsys.readouterr().out
    assert steps == []
    assert not (tmp_path / "new").exists()
    assert {p: p.stat().st_mtime_ns for p in unbroken.rglob("*")} == before


def test_unreadable_images_do_not_cost_the_results_of_the_others(best, toy_root, tmp_path, capsys):
    first, second, *_ = sorted((toy_root / "val2017").iterdir())
    source = tmp_path / "my [photos], (a=b) #1 'é\" {x}"
    (source / "sub").mkdir(parents=True)
    shutil.copy(first, source / "a.jpg")
    shutil.copy(second, source / "sub" / "a.jpg")
    Image.open(first).save(source / "a.gif")
    (source / "broken.jpg").write_bytes(first.read_bytes()[:500])
    (source / "._a.jpg").write_bytes(b"not an image")
    checkpoint = shutil.copy(best.partition("=")[2], tmp_path / "last, best=1.ckpt")
    code = run_main(
        "predict", f"source={source}", f"ckpt_path={checkpoint}", "device=cpu", "out=o ut",
        cwd=tmp_path,
    )  # fmt: skip
    assert code == 1
    out, err = capsys.readouterr()
    assert "left out: " in out
    assert "1 of 4 images left out, the first one: " in err
    found = json.loads((tmp_path / "o ut" / "panoptic.json").read_text())
    assert [image["file_name"] for image in found["images"]] == ["a.gif", "a.jpg", "sub/a.jpg"]
    for entry, name in zip(
        found["annotations"], ("a.gif.png", "a.jpg.png", "sub/a.png"), strict=True
    ):
        assert entry["file_name"] == name
        assert (tmp_path / "o ut" / "overlays" / name).is_file()
    predict(tmp_path / "alone", best, f"source={second}")
    assert (tmp_path / "alone" / "panoptic" / f"{second.stem}.png").read_bytes() == (
        tmp_path / "o ut" / "panoptic" / "sub" / "a.png"
    ).read_bytes()
