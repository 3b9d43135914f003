"""Sweeps under Weights & Biases, offline: what is in the run folders afterwards."""

import csv
import json
import os
import subprocess
import sys

import pytest

from refine.config import compose
from refine.workflows.evaluate_checkpoint import evaluate

pytest.importorskip("wandb", reason="the wandb extra is not installed")

from oracles.wandb_runs import read_runs

pytestmark = pytest.mark.slow
RATES = ("1000000000.0", "0.0001")  # the first one diverges at once


def _run(command, folder, overrides):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    return subprocess.run(
        [sys.executable, "-m", f"refine.{command}", "-m", f"hydra.sweep.dir={folder}", *overrides],
        check=False, capture_output=True, text=True, cwd=folder.parent,
        env=environment | {"OMP_NUM_THREADS": "1", "WANDB_API_KEY": "", "HOME": str(folder.parent)},
    )  # fmt: skip


def _assert_holds_metrics(run):
    metrics = json.loads((run.folder.parents[1] / "metrics.json").read_text())
    assert {k: run.summary[f"val/{k}"] for k in metrics} == pytest.approx(metrics)


@pytest.fixture(scope="module")
def sweep(settings, tmp_path_factory):
    """Two trainings of two steps, of which the first one fails."""
    folder = tmp_path_factory.mktemp("sweep") / "rates"
    done = _run(
        "train", folder,
        [
            *settings, "logger=wandb", "logger.wandb.checkpoints=best", "model=refine",
            "model.ibpp.num_iterations=1", "trainer.max_steps=2", "trainer.val_check_interval=2",
            "trainer.log_every_n_steps=1", "trainer.gradient_clip_val=null", "optimizer.name=sgd",
            "schedule.warmup_steps=0", f"optimizer.lr={','.join(RATES)}", "compute_ap=false",
            "hydra.sweep.subdir=${hydra:job.num}", "callbacks.wandb.count=2",
        ],
    )  # fmt: skip
    assert "diverged" in done.stderr or "not finite" in done.stderr, done.stderr[-3000:]
    return folder, done, read_runs(folder)


def test_every_job_is_a_run_of_its_own_named_after_what_it_changes(sweep):
    folder, done, runs = sweep
    names = [f"optimizer.lr={rate}" for rate in RATES]
    assert done.returncode == 1  # a job has failed
    assert done.stdout.count("wandb sync") == 1
    assert [run.exit_codes for run in runs] == [[1], [0]]
    assert len({run.id for run in runs}) == 2
    assert [run.folder.parents[1].name for run in runs] == ["0", "1"]
    assert [run.name for run in runs] == [run.config["row"] for run in runs] == names
    assert [run.config["optimizer"]["lr"] for run in runs] == [float(rate) for rate in RATES]
    assert {(run.group, run.tags, run.job_type) for run in runs} == {("rates", ("toy",), "train")}
    assert [p.parent.name for p in folder.glob("*/DONE")] == ["1"]


def test_a_run_holds_scalars_table_pictures_and_checkpoint(sweep):
    _, _, (failed, run) = sweep
    assert "val/pq" not in failed.summary
    _assert_holds_metrics(run)
    assert len([entry for entry in run.history if "train/loss" in entry]) == 2
    captions = run.summary["pictures/panoptic/captions"]
    assert captions == ["000010000001.jpg", "000010000002.jpg"]
    assert run.summary["pictures/iterations/count"] == 2
    files = {p.suffix for p in (run.folder / "files" / "media").rglob("*") if p.is_file()}
    assert files == {".jpg", ".json"}
    assert f"best-{run.id}" in run.artifacts
    table = json.loads((run.folder / "files" / run.summary["val/per_category/path"]).read_text())
    with (run.folder.parents[1] / "per_category.csv").open(newline="") as lines:
        header, *rows = csv.reader(lines)
    assert table["columns"] == header
    assert [row[1] for row in table["data"]] == [row[1] for row in rows]


def test_evaluations_upload_their_results(run, tmp_path):
    cache = [
        f"ckpt_path={run / 'checkpoints' / 'last.ckpt'}", f"run_dir={tmp_path / 'run'}",
        f"save_predictions={tmp_path / 'cache'}", "trainer=cpu", "compute_ap=false",
        "trainer.enable_progress_bar=false", "data.num_workers=0",
    ]  # fmt: skip
    evaluate(compose("evaluate", cache))
    rules = "fusion.relations.kind=score,area"
    overrides = [f"predictions={tmp_path / 'cache'}", rules, "data.num_workers=0", "upload=wandb"]
    done = _run("evaluate", tmp_path / "orders", overrides)
    assert done.returncode == 0, done.stderr
    runs = read_runs(tmp_path / "orders")
    rows = {r.config["row"].removeprefix("fusion.relations.kind=") for r in runs}
    assert rows == {"area", "score"}
    for r in runs:
        assert (r.group, r.job_type, r.exit_codes) == ("orders", "evaluate", [0])
        _assert_holds_metrics(r)
