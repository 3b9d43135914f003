"""The commands, run for real on a few toy scenes with a tiny network."""

import csv
import json
import os
import subprocess
import sys

import pytest
import torch

from refine.config import compose
from refine.errors import RefineError
from refine.evaluate import evaluate
from refine.training.detector_module import DetectorModule

NUM_VAL = 5


def test_a_run_leaves_what_the_readme_says(run):
    names = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    assert {"metrics.json", "per_category.csv", "config.yaml", "DONE", "csv/metrics.csv"} <= names
    assert {"checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= names
    assert len(list((run / "pictures").glob("*.png"))) == 2
    metrics = json.loads((run / "metrics.json").read_text())
    keys = {f"{k}{s}" for k in ("pq", "sq", "rq") for s in ("", "_things", "_stuff")}
    others = {"ap_box", "ap_mask", "images_per_second", "num_images", "panoptic_only", "seed"}
    shares = {"consensus_gap", "band_void"}
    assert keys | others | shares == set(metrics)
    assert all(0 <= metrics[k] <= 1 for k in keys | shares)
    assert metrics["num_images"] == NUM_VAL
    rows = list(csv.DictReader((run / "per_category.csv").open()))
    assert len(rows) == 11


@pytest.mark.parametrize("step", [3, 4, 6], ids=["mid-epoch", "epoch's end", "second epoch"])
def test_interrupted_and_resumed_equals_uninterrupted(start, tmp_path, monkeypatch, step):
    """Four batches an epoch. Weights, optimiser and all must be those of an unbroken run."""
    common = ["trainer.max_steps=8", "trainer.limit_val_batches=0", "compute_ap=false"]

    def final(run_dir, *overrides):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("refine.train.finish", lambda *args, **kwargs: {})
            start(run_dir, *common, *overrides)
        return torch.load(run_dir / "checkpoints" / "end.ckpt", weights_only=True)

    end = ["callbacks.last.every_n_train_steps=8", "callbacks.last.filename=end"]
    whole = final(tmp_path / "whole", *end)

    original = DetectorModule.training_step

    def power_cut(self, batch, batch_idx):
        if self.global_step == step:
            raise OSError("power cut")
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(DetectorModule, "training_step", power_cut)
        with pytest.raises(OSError, match="power cut"):
            start(tmp_path / "cut", *common)
    resumed = final(
        tmp_path / "resumed", *end, f"ckpt_path={tmp_path / 'cut' / 'checkpoints' / 'last.ckpt'}"
    )

    assert resumed["global_step"] == whole["global_step"] == 8
    for key, value in whole["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][key]), key
    states = [c["optimizer_states"][0]["state"] for c in (whole, resumed)]
    assert all(torch.equal(v["exp_avg"], states[1][k]["exp_avg"]) for k, v in states[0].items())


def test_evaluate_repeats_the_final_evaluation(run, tmp_path):
    overrides = [
        f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}", f"run_dir={tmp_path}", "trainer=cpu",
        "trainer.enable_progress_bar=false",
    ]  # fmt: skip
    evaluate(compose("evaluate", overrides), overrides)
    assert (tmp_path / "per_category.csv").read_text() == (run / "per_category.csv").read_text()


def test_fusion_settings_override_the_checkpoint(run, tmp_path):
    overrides = [
        f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}", f"run_dir={tmp_path}", "trainer=cpu",
        "trainer.enable_progress_bar=false", "fusion.merge.score_thresh=1.0",
        "data.stuff_area_limit_px=1000000",
    ]  # fmt: skip
    metrics = evaluate(compose("evaluate", overrides), overrides)
    assert metrics["pq"] == 0.0  # nothing passes: no instance, no stuff


@pytest.mark.ddp
def test_two_processes_count_what_one_counts(run, tmp_path):
    """Five images on two processes: the sampler pads, the metric skips the padding."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for name, trainer in (("one", "cpu"), ("two", "ddp_cpu")):
        subprocess.run(
            [
                sys.executable, "-m", "refine.evaluate", f"trainer={trainer}",
                f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}", "fusion.merge.score_thresh=0.05",
                f"hydra.run.dir={tmp_path / name}", "trainer.enable_progress_bar=false",
            ],
            check=True, env=environment, cwd=tmp_path,
        )  # fmt: skip
    one, two = (
        list(csv.DictReader((tmp_path / n / "per_category.csv").open())) for n in ("one", "two")
    )
    assert sum(int(row["tp"]) + int(row["fp"]) for row in one) > 0
    for a, b in zip(one, two, strict=True):
        assert [a[k] for k in ("tp", "fp", "fn")] == [b[k] for k in ("tp", "fp", "fn")]
        assert float(a["iou"]) == pytest.approx(float(b["iou"]), abs=1e-12)
    counts = [json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("one", "two")]
    assert [c["num_images"] for c in counts] == [NUM_VAL, NUM_VAL]
    assert counts[0]["ap_box"] == pytest.approx(counts[1]["ap_box"], abs=1e-6)


def test_checkpoint_of_another_model_is_refused(start, run, tmp_path):
    with pytest.raises(RefineError, match=r"model\.semantic\.channels=32, not 64"):
        start(
            tmp_path, "model.semantic.channels=64",
            f"ckpt_path={run / 'checkpoints' / 'last.ckpt'}",
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_diverged_loss_is_one_clear_line(start, tmp_path):
    with pytest.raises(RefineError, match=r"optimizer\.lr"):
        start(
            tmp_path, "optimizer.lr=1e9", "optimizer.name=sgd", "trainer.max_steps=8",
            "trainer.gradient_clip_val=null", "schedule.warmup_steps=0",
            "trainer.limit_val_batches=0",
        )  # fmt: skip
