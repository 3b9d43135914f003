"""Every job of a multirun has a folder of its own: short, unique and stable."""

import copy
import re

import hydra
import pytest
from omegaconf import OmegaConf

from make.commands import run_main
from refine.config.composition import register_schemas
from refine.config.job_names import name_jobs
from refine.config.locate import VERSION_BASE, conf_dir

LONG = "'runs/a b,(seed=1)/é#/" + "x" * 300
VALUES = {  # two values of keys that a folder's name could forget, for every command
    "train": [
        ("data.root", "a", "b"), ("ckpt_path", f"{LONG}/a.ckpt'", f"{LONG}/b.ckpt'"),
        ("weights", "a/x", "a-x"), ("trainer.devices", 1, 2), ("trainer", "cpu", "gpu"),
        ("data.num_workers", 1, 2), ("logger", "csv", "wandb"), ("run_dir", "a", "b"),
    ],
    "evaluate": [
        ("ckpt_path", "a", "b"), ("predictions", "a", "b"), ("save_predictions", "a", "b"),
        ("occlusion_ckpts", "{a: x}", "{a: y}"), ("draw", 1, 2), ("fusion", "soe", "refine"),
    ],
    "predict": [("ckpt_path", "a", "b"), ("source", "a", "'a '"), ("device", "cpu", "auto")],
    "score": [("pred_json", "a", "b"), ("num_workers", 1, 2), ("out", "a", "b")],
    "convert": [("out", "a.ckpt", "b.ckpt")],  # what else is swept would be written into one file
}  # fmt: skip


def _compose(command, key, *values):
    register_schemas()
    with hydra.initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
        known = OmegaConf.to_container(hydra.compose(command))
        given = [f"{k}=x" for k, v in known.items() if v == "???" and k != key]
        jobs = [[*given, f"{key}={value}"] for value in values]
        composed = [hydra.compose(command, job, return_hydra_config=True) for job in jobs]
    return [("row", *job) for job in zip(jobs, composed, strict=True)]


def _name(rows, key):
    return [name for name, _ in name_jobs(copy.deepcopy(rows), swept={key})]


@pytest.mark.parametrize("command", VALUES)
def test_every_key_gives_folders_of_their_own(command):
    for key, *values in VALUES[command]:
        rows = _compose(command, key, *values)
        names = _name(rows, key)
        assert len(set(names)) == 2, key
        assert all(re.fullmatch(r"row\+[A-Za-z0-9._+-]{1,80}\+[0-9a-f]{8}", n) for n in names), key
        assert _name(rows[::-1], key) == names[::-1]  # wherever it is in the sweep


def test_names_say_what_is_swept():
    key = "fusion.merge.score_thresh"
    names = _name(_compose("evaluate", key, 0.25, 0.5), key)
    assert [n[:-9] for n in names] == ["row+score_thresh-0.25", "row+score_thresh-0.5"]


@pytest.mark.parametrize(
    "given",
    [
        "evaluate predictions=x seed=1,1", "evaluate predictions=x seed=1,2 run_dir=x",
        "predict ckpt_path=x source=a,b hydra.sweep.subdir=x", "convert source=a,b out=x.ckpt",
    ],
)  # fmt: skip
def test_two_jobs_with_one_folder_are_refused_before_the_first_starts(given, tmp_path, capsys):
    command, *overrides = given.split()
    assert run_main(command, "-m", *overrides, cwd=tmp_path) == 1
    assert "jobs 0 and 1" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
