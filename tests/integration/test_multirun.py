"""Jobs of a multirun: finished ones are kept, an interrupted one goes on, several run at a time."""

import json
import os
import subprocess
import sys

import pytest
import torch

from refine.config import compose
from refine.train import train_job
from refine.training.detector_module import DetectorModule

STEPS = ["schedule.max_steps=4", "compute_ap=false"]


@pytest.fixture
def job(settings, monkeypatch):
    """Trains a job that loses power at some step; weights and number of steps it took."""

    def _job(run_dir, *overrides, cut_at=None):
        steps = []
        original = DetectorModule.training_step

        def step(self, batch, batch_idx):
            if self.global_step == cut_at:
                raise OSError("power cut")
            steps.append(self.global_step)
            return original(self, batch, batch_idx)

        with monkeypatch.context() as patch:
            patch.setattr(DetectorModule, "training_step", step)
            train_job(compose("train", [*settings, *STEPS, f"run_dir={run_dir}", *overrides]))
        return steps

    return _job


def read_weights(run_dir):
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_an_interrupted_job_goes_on_to_the_weights_of_an_unbroken_one(job, tmp_path):
    assert job(tmp_path / "whole") == [0, 1, 2, 3]
    with pytest.raises(OSError, match="power cut"):
        job(tmp_path / "cut", cut_at=3)
    assert job(tmp_path / "cut") == [3]
    whole, resumed = read_weights(tmp_path / "whole"), read_weights(tmp_path / "cut")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    assert job(tmp_path / "cut") == []  # finished: kept


def test_a_checkpoint_of_another_configuration_is_not_gone_on_from(job, tmp_path):
    """Nor when the run that was to replace it was cut before its own first checkpoint."""
    with pytest.raises(OSError, match="power cut"):
        job(tmp_path, cut_at=3)
    with pytest.raises(OSError, match="power cut"):
        job(tmp_path, "seed=1", "callbacks.last=null", cut_at=2)
    assert job(tmp_path, "seed=1") == [0, 1, 2, 3]


def test_a_trial_is_not_gone_on_from(job, tmp_path):
    """Its learning rate has decayed over other steps."""
    assert job(tmp_path, "trainer.max_steps=2") == [0, 1]
    assert job(tmp_path) == [0, 1, 2, 3]


@pytest.mark.slow
def test_jobs_in_processes_of_their_own_equal_jobs_one_by_one(settings, tmp_path):
    pytest.importorskip(
        "hydra_plugins.hydra_joblib_launcher", reason="the parallel extra is not installed"
    )
    rates = ["0.001", "1e9"]  # the second one diverges
    folders = {"basic": tmp_path / "one", "joblib": tmp_path / "two"}
    for launcher, folder in folders.items():
        command = [
            *(sys.executable, "-m", "refine.train", "-m", *settings, *STEPS),
            *(f"hydra/launcher={launcher}", f"hydra.sweep.dir={folder}"),
            "hydra.sweep.subdir=${hydra:job.num}",
            *(f"optimizer.lr={','.join(rates)}", "trainer.gradient_clip_val=null"),
        ]
        command += ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 1, done.stderr[-2000:]
        assert sorted(p.parent.name for p in folder.glob("*/DONE")) == ["0"]
    metrics = [json.loads((f / "0" / "metrics.json").read_text()) for f in folders.values()]
    assert metrics[0]["pq"] == pytest.approx(metrics[1]["pq"], abs=1e-6)
