"""A training and its evaluation, run for real on a few toy scenes with a tiny network."""

import csv
import json
import re

import pytest
import torch

from make.commands import evaluate, predict, score, start_process, steps_of
from make.errors import refused
from refine.training.detector_module import DetectorModule

NUM_VAL = 5


def read_rows(run_dir):
    return [*csv.DictReader((run_dir / "per_category.csv").read_text().splitlines())]


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
    assert len(read_rows(run)) == 11


FOUR_STEPS = [
    "data.batch_size=4", "trainer.max_steps=4", "trainer.val_check_interval=4", "compute_ap=false",
    "trainer.limit_val_batches=1", "callbacks.best=null",
]  # fmt: skip
KEEP_EVERY_STEP = (
    "+callbacks.every={_target_: pytorch_lightning.callbacks.ModelCheckpoint, save_top_k: -1, "
    "dirpath: '${run_dir}/steps', filename: '{step}', every_n_train_steps: 1}"
)


@pytest.fixture(scope="module")
def unbroken(start, tmp_path_factory):
    """The checkpoints after each of four steps, two per epoch."""
    run_dir = tmp_path_factory.mktemp("unbroken")
    start(run_dir, *FOUR_STEPS, KEEP_EVERY_STEP)
    return [run_dir / "steps" / f"step={k}.ckpt" for k in range(5)]


def test_each_validation_says_what_the_heads_of_ibpp_read(start, tmp_path, capsys):
    start(
        tmp_path, "model.ibpp.num_iterations=1", "model.ibpp.direction=sem_to_ins",
        "trainer.max_steps=2", "trainer.val_check_interval=1",
    )  # fmt: skip
    lines = [line for line in capsys.readouterr().out.splitlines() if "heads read" in line]
    assert [line.partition(",")[0] for line in lines] == ["step 1", "step 2"]
    assert re.findall(r"(\w+) -?[\d.]+ / [\d.]+", lines[0]) == ["f_ins", "F_sem", "f_sem", "p_sem"]
    header = (tmp_path / "csv" / "metrics.csv").read_text().partition("\n")[0]
    assert "inputs/p_sem_rms" in header
    assert "inputs/canvas_rms" not in header


def test_half_precision_clips_gradients(start, tmp_path):
    """Lightning clips no optimizer that unscales gradients itself, as a fused one does."""
    start(
        tmp_path, "trainer.precision=bf16-mixed", "trainer.gradient_clip_val=0.001",
        "optimizer=sgd", "optimizer.weight_decay=0", "optimizer.norm_weight_decay=0",
        "schedule.warmup_steps=0", "trainer.max_steps=2", "compute_ap=false",
        KEEP_EVERY_STEP,
    )  # fmt: skip
    first, second = (
        torch.load(tmp_path / "steps" / f"step={k}.ckpt", weights_only=False) for k in (1, 2)
    )
    lr = second["optimizer_states"][0]["param_groups"][0]["initial_lr"]
    moved = sum(
        (second["state_dict"][name] - value).double().square().sum()
        for name, value in first["state_dict"].items()
    )
    assert 0 < moved.sqrt() <= 1.01 * lr * 0.001


@pytest.mark.parametrize("step", [1, 2, 3], ids=["mid-epoch", "epoch's end", "second epoch"])
def test_resumed_equals_uninterrupted(start, unbroken, tmp_path, step):
    """Weights, optimiser and all must be those of an unbroken run."""
    with steps_of(DetectorModule) as steps:
        start(tmp_path, *FOUR_STEPS, f"ckpt_path='{unbroken[step]}'")
    assert steps == [0, 1, 2, 3][step:]
    whole, resumed = (
        torch.load(path, weights_only=True)
        for path in (unbroken[4], tmp_path / "checkpoints" / "last.ckpt")
    )
    assert resumed["global_step"] == whole["global_step"] == 4
    for key, value in whole["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][key]), key
    states = [c["optimizer_states"][0]["state"] for c in (whole, resumed)]
    assert all(torch.equal(v["exp_avg"], states[1][k]["exp_avg"]) for k, v in states[0].items())


def test_evaluation_and_files_repeat_the_final_evaluation(run, best, toy_root, tmp_path):
    evaluate(tmp_path / "again", best)
    assert read_rows(tmp_path / "again") == read_rows(run)
    predict(tmp_path / "out", best, f"source={toy_root / 'val2017'}")
    assert len(list((tmp_path / "out" / "overlays").glob("*.png"))) == 5
    metrics = score(
        tmp_path / "scored",
        f"gt_json={toy_root / 'annotations' / 'panoptic_val2017.json'}",
        f"pred_json={tmp_path / 'out' / 'panoptic.json'}",
        f"pred_dir={tmp_path / 'out' / 'panoptic'}",
    )
    assert metrics["num_images"] == 5
    assert read_rows(tmp_path / "scored") == read_rows(run)
    assert metrics["pq"] == json.loads((run / "metrics.json").read_text())["pq"]


def test_fusion_settings_override_the_checkpoint(best, tmp_path):
    overrides = ["fusion.merge.score_thresh=1.0", "data.stuff_area_limit_px=1000000"]
    assert evaluate(tmp_path, best, *overrides)["pq"] == 0.0  # no instance and no stuff passes


def test_evaluation_and_prediction_see_several_views(best, toy_root, tmp_path):
    low = "fusion.merge.score_thresh=0.05"
    plain = evaluate(tmp_path / "plain", best, low)
    views = ["data.image.eval_flip=true", "data.image.eval_scales=[0.75,1.0]"]
    found = evaluate(tmp_path / "views", best, low, *views)
    assert found["num_images"] == NUM_VAL
    assert found["consensus_gap"] != plain["consensus_gap"]
    predict(tmp_path / "out", best, low, *views, f"source={toy_root / 'val2017'}")
    scored = score(
        tmp_path / "scored",
        f"gt_json={toy_root / 'annotations' / 'panoptic_val2017.json'}",
        f"pred_json={tmp_path / 'out' / 'panoptic.json'}",
        f"pred_dir={tmp_path / 'out' / 'panoptic'}",
    )
    assert scored["pq"] == found["pq"]
    with refused("save_predictions", "data.image.eval_flip"):
        evaluate(tmp_path / "saved", best, f"save_predictions={tmp_path / 'cache'}", *views)


@pytest.mark.ddp
def test_two_processes_count_what_one_counts(best, tmp_path):
    """Five images on two processes: the sampler pads, the metric skips the padding."""
    low = "fusion.merge.score_thresh=0.05"
    counts = evaluate(tmp_path / "one", best, low)
    start_process(
        "evaluate", "trainer=ddp_cpu", best, low, f"hydra.run.dir={tmp_path / 'two'}",
        "trainer.enable_progress_bar=false", cwd=tmp_path, check=True,
    )  # fmt: skip
    one, two = read_rows(tmp_path / "one"), read_rows(tmp_path / "two")
    assert sum(int(row["tp"]) + int(row["fp"]) for row in one) > 0
    for a, b in zip(one, two, strict=True):
        assert [a[k] for k in ("tp", "fp", "fn")] == [b[k] for k in ("tp", "fp", "fn")]
        assert float(a["iou"]) == pytest.approx(float(b["iou"]), abs=1e-12)
    counted = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert counted["num_images"] == counts["num_images"] == NUM_VAL
    assert counted["ap_box"] == pytest.approx(counts["ap_box"], abs=1e-6)


def test_checkpoint_of_another_model_is_refused(start, run, tmp_path):
    last = f"ckpt_path={run / 'checkpoints' / 'last.ckpt'}"
    with refused("model.semantic.channels=32, not 64"):
        start(tmp_path, "model.semantic.channels=64", last)
    assert not list(tmp_path.iterdir())


def test_diverged_loss_is_one_clear_line(start, tmp_path):
    with refused("optimizer.lr"):
        start(
            tmp_path, "optimizer.lr=1e9", "optimizer.name=sgd", "trainer.max_steps=8",
            "trainer.gradient_clip_val=null", "schedule.warmup_steps=0",
            "trainer.limit_val_batches=0",
        )  # fmt: skip
