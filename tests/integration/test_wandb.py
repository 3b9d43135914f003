"""Sweeps under Weights & Biases, offline: what lies in the run folders afterwards."""

import csv
import json
import os
import subprocess
import sys

import pytest

from refine.config import compose
from refine.evaluate import evaluate

pytest.importorskip("wandb", reason="the wandb extra is not installed")

from oracles.wandb_runs import read_runs

RATES = ("0.0001", "1000000000.0", "0.0002")  # the second one diverges at once


def _run(command, folder, overrides):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    return subprocess.run(
        [sys.executable, "-m", f"refine.{command}", "-m", f"hydra.sweep.dir={folder}", *overrides],
        check=False, capture_output=True, text=True, cwd=folder.parent,
        env=environment | {"OMP_NUM_THREADS": "1", "WANDB_API_KEY": "", "HOME": str(folder.parent)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def sweep(settings, tmp_path_factory):
    """Three trainings of two steps, of which the second one fails."""
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


@pytest.mark.slow
def test_every_job_is_a_run_of_its_own_and_all_are_closed(sweep):
    folder, done, runs = sweep
    assert done.returncode == 1  # a job has failed
    assert [run.exit_codes for run in runs] == [[0], [1], [0]]
    assert len({run.id for run in runs}) == 3
    assert [run.folder.parents[1].name for run in runs] == ["0", "1", "2"]
    assert [run.config["optimizer"]["lr"] for run in runs] == [float(rate) for rate in RATES]
    assert sorted(p.parent.name for p in folder.glob("*/DONE")) == ["0", "2"]


@pytest.mark.slow
def test_runs_are_filed_by_ablation(sweep):
    _, _, runs = sweep
    assert {run.group for run in runs} == {"rates"}
    assert [run.name for run in runs] == [f"optimizer.lr={rate}" for rate in RATES]
    assert [run.config["row"] for run in runs] == [f"optimizer.lr={rate}" for rate in RATES]
    assert {run.tags for run in runs} == {("toy",)}
    assert {run.job_type for run in runs} == {"train"}


@pytest.mark.slow
def test_a_run_holds_scalars_table_pictures_and_checkpoint(sweep):
    folder, _, runs = sweep
    for number in (0, 2):
        run = runs[number]
        metrics = json.loads((folder / str(number) / "metrics.json").read_text())
        assert {k: run.summary[f"val/{k}"] for k in metrics} == pytest.approx(metrics)
        losses = [entry["train/loss"] for entry in run.history if "train/loss" in entry]
        assert len(losses) == 2
        assert run.summary["pictures/panoptic/captions"] == [
            "000010000001.jpg", "000010000002.jpg",
        ]  # fmt: skip
        assert run.summary["pictures/iterations/count"] == 2
        files = {p.suffix for p in (run.folder / "files" / "media").rglob("*") if p.is_file()}
        assert files == {".jpg", ".json"}
        assert f"best-{run.id}" in run.artifacts
        table = json.loads(
            (run.folder / "files" / run.summary["val/per_category/path"]).read_text()
        )
        with (folder / str(number) / "per_category.csv").open(newline="") as lines:
            header, *rows = csv.reader(lines)
        assert table["columns"] == header
        assert [row[1] for row in table["data"]] == [row[1] for row in rows]
    assert not any("val/pq" in run.summary for run in runs[1:2])


@pytest.mark.slow
def test_how_to_sync_is_said_once(sweep):
    folder, done, _ = sweep
    lines = [line for line in done.stdout.splitlines() if "wandb sync" in line]
    assert len(lines) == 1
    assert f"wandb sync {folder}/*/wandb/offline-run-*" in lines[0]


@pytest.mark.slow
def test_evaluations_upload_their_results(run, tmp_path):
    """Finished jobs of the same sweep are neither evaluated nor uploaded again."""
    cache = [
        f"ckpt_path={run / 'checkpoints' / 'last.ckpt'}", f"run_dir={tmp_path / 'run'}",
        f"save_predictions={tmp_path / 'cache'}", "trainer=cpu", "compute_ap=false",
        "trainer.enable_progress_bar=false", "data.num_workers=0",
    ]  # fmt: skip
    evaluate(compose("evaluate", cache), cache)
    folder = tmp_path / "orders"
    overrides = [
        f"predictions={tmp_path / 'cache'}", "fusion.relations.kind=score,area",
        "data.num_workers=0", "upload=wandb",
    ]  # fmt: skip
    for _ in range(2):
        done = _run("evaluate", folder, overrides)
        assert done.returncode == 0, done.stderr
    runs = read_runs(folder)
    assert [r.exit_codes for r in runs] == [[0], [0]]
    assert {r.config["row"] for r in runs} == {
        f"fusion.relations.kind={k}" for k in ("area", "score")
    }
    assert {(r.group, r.job_type) for r in runs} == {("orders", "evaluate")}
    for r in runs:
        metrics = json.loads((r.folder.parents[1] / "metrics.json").read_text())
        assert {k: r.summary[f"val/{k}"] for k in metrics} == pytest.approx(metrics)
