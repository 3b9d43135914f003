"""Jobs of a multirun: finished ones are kept, an interrupted one resumes, several run at a time."""

import json

import pytest
import torch

from make.commands import start_process, steps_of, train
from make.errors import refused
from refine.training.detector_module import DetectorModule

STEPS = ["schedule.max_steps=4", "compute_ap=false", "callbacks.best=null"]
STEPS += ["trainer.limit_val_batches=1"]


@pytest.fixture
def job(settings):
    """Trains a job, with a power cut before some step; the steps that it took."""

    def _job(run_dir, *overrides, cut_at=None):
        with steps_of(DetectorModule, cut_at=cut_at) as steps:
            train(run_dir, *settings, *STEPS, *overrides)
        return steps

    return _job


def read_weights(run_dir):
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_an_interrupted_job_resumes_to_the_weights_of_an_unbroken_one(job, tmp_path):
    assert job(tmp_path / "whole") == [0, 1, 2, 3]
    assert job(tmp_path / "cut", cut_at=3) == [0, 1, 2]
    # the learning rate of a trial of fewer steps decays faster
    with refused(f"{tmp_path / 'cut'} holds a run with another trainer.max_steps"):
        job(tmp_path / "cut", "trainer.max_steps=2")
    assert job(tmp_path / "cut", "data.num_workers=1") == [3]
    whole, resumed = read_weights(tmp_path / "whole"), read_weights(tmp_path / "cut")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    assert job(tmp_path / "cut") == []  # finished: kept


@pytest.mark.slow
def test_jobs_in_processes_of_their_own_equal_jobs_one_by_one(settings, tmp_path):
    pytest.importorskip(
        "hydra_plugins.hydra_joblib_launcher", reason="the parallel extra is not installed"
    )
    metrics = []
    for launcher, more in (("basic", []), ("joblib", ["hydra.launcher.n_jobs=2"])):
        folder = tmp_path / launcher
        done = start_process(
            "train", "-m", *settings, *STEPS, f"hydra/launcher={launcher}", *more,
            f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=${hydra:job.num}",
            "optimizer.lr=0.001,1e9", "trainer.gradient_clip_val=null", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 1, done.stderr[-2000:]  # the second one diverges
        assert [p.parent.name for p in folder.glob("*/DONE")] == ["0"]
        metrics.append(json.loads((folder / "0" / "metrics.json").read_text()))
    assert metrics[0]["pq"] == pytest.approx(metrics[1]["pq"], abs=1e-6)
