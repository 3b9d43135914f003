"""What Lightning offers beside a plain training: averages of weights, accumulation, early ends."""

import csv
import itertools

import pytest
import torch

from make.commands import evaluate, steps_of
from refine.training.detector_module import DetectorModule

SHORT = [
    "data.batch_size=4", "trainer.val_check_interval=4", "compute_ap=false",
    "trainer.limit_val_batches=1",
]  # fmt: skip
EVERY_STEP = (
    "+callbacks.every={_target_: pytorch_lightning.callbacks.ModelCheckpoint, save_top_k: -1, "
    "dirpath: '${run_dir}/steps', filename: '{step}', every_n_train_steps: 1}"
)


def _load(path):
    return torch.load(path, weights_only=True)


def _assert_equal(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


def test_a_moving_average_is_kept_evaluated_and_resumed_bit_by_bit(start, tmp_path, monkeypatch):
    ema = [*SHORT, "callbacks=[default,ema]", "callbacks.ema.decay=0.5", "callbacks.progress=null"]
    metrics = start(tmp_path / "whole", *ema, "trainer.max_steps=4", EVERY_STEP)
    paths = [tmp_path / "whole" / "steps" / f"step={k}.ckpt" for k in range(1, 5)]
    steps = [_load(path) for path in paths]
    for path in (paths[0], *paths[2:]):  # a tenth of a gigabyte each
        path.unlink()
    name = "pipeline.network.box_cascade.stages.0.head.fc1.weight"
    mean = steps[0]["current_model_state"][name]  # the average begins as a copy
    for before, step in itertools.pairwise(steps):
        mean = before["state_dict"][name].lerp(step["current_model_state"][name], 0.5)
        torch.testing.assert_close(step["state_dict"][name], mean)
    assert not torch.equal(steps[3]["state_dict"][name], steps[3]["current_model_state"][name])
    _assert_same_weights(tmp_path / "whole" / "checkpoints" / "last.ckpt", steps[3])
    resumed = ["trainer.max_steps=4", "callbacks.best=null", f"ckpt_path='{paths[1]}'"]

    def fail(*_):
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(DetectorModule, "validation_step", fail)
        with pytest.raises(OSError, match="power cut"):
            start(tmp_path / "cut", *ema, *resumed)
    _assert_same_weights(tmp_path / "cut" / "checkpoints" / "last.ckpt", steps[3])
    rest = start(tmp_path / "rest", *ema, *resumed, EVERY_STEP)
    _assert_same_weights(tmp_path / "rest" / "steps" / "step=4.ckpt", steps[3])
    again = _evaluate(tmp_path / "again", tmp_path / "whole" / "checkpoints" / "best.ckpt")
    assert again["pq"] == metrics["pq"]
    assert again["consensus_gap"] == metrics["consensus_gap"] == rest["consensus_gap"]


def test_the_best_of_the_moving_averages_is_evaluated_at_the_end(start, tmp_path):
    ema = [*SHORT, "callbacks=[default,ema]", "callbacks.ema.decay=0.5", "callbacks.progress=null"]
    first = ["callbacks.best.monitor=step", "callbacks.best.mode=min", "trainer.max_steps=4"]
    metrics = start(tmp_path / "run", *ema, "trainer.val_check_interval=2", *first)
    best, last = (tmp_path / "run" / "checkpoints" / f"{k}.ckpt" for k in ("best", "last"))
    assert (_load(best)["global_step"], _load(last)["global_step"]) == (2, 4)
    gaps = [_evaluate(tmp_path / path.stem, path)["consensus_gap"] for path in (best, last)]
    assert gaps[0] != gaps[1]
    assert metrics["consensus_gap"] == gaps[0]


def _evaluate(folder, checkpoint):
    limits = ["trainer.limit_val_batches=1", "compute_ap=false"]
    return evaluate(folder, f"ckpt_path={checkpoint}", *limits)


def _assert_same_weights(path, expected):
    found = _load(path)
    for part in ("state_dict", "current_model_state", "averaging_state"):
        _assert_equal(found[part], expected[part])


def test_accumulated_gradients_resume_bit_by_bit(start, tmp_path):
    two = [
        *SHORT[1:],
        "data.batch_size=2",
        "trainer.accumulate_grad_batches=2",
        "callbacks.best=null",
    ]
    start(tmp_path / "whole", *two, "trainer.max_steps=3", EVERY_STEP)
    first = tmp_path / "whole" / "steps" / "step=1.ckpt"
    with steps_of(DetectorModule) as steps:
        start(tmp_path / "rest", *two, "trainer.max_steps=3", f"ckpt_path='{first}'")
    assert steps == [1, 1, 2, 2]
    whole, rest = (
        _load(tmp_path / k / "checkpoints" / "last.ckpt")["state_dict"] for k in ("whole", "rest")
    )
    _assert_equal(whole, rest)


def test_an_early_end_leaves_a_whole_run(start, tmp_path):
    early = ["callbacks=[default,early_stopping]", "callbacks.progress=null"]
    metrics = start(
        tmp_path, *SHORT, *early, "callbacks.early_stopping.patience=1", "optimizer.lr=1e-12",
        "trainer.max_steps=12", "trainer.val_check_interval=2",
    )  # fmt: skip
    assert (tmp_path / "DONE").is_file()
    assert _load(tmp_path / "checkpoints" / "last.ckpt")["global_step"] < 12
    assert metrics["num_images"] == 1
    with steps_of(DetectorModule) as steps:
        start(
            tmp_path, *SHORT, *early, "callbacks.early_stopping.patience=1", "optimizer.lr=1e-12",
            "trainer.max_steps=12", "trainer.val_check_interval=2",
        )  # fmt: skip
    assert steps == []


FINDER = [
    *SHORT, "callbacks=[default,lr_finder]", "callbacks.progress=null", "optimizer.lr=0.5",
    "callbacks.lr_finder.num_training_steps=24", "schedule.warmup_steps=0",
    "schedule.decay=multistep", "schedule.milestones=[]",
]  # fmt: skip


def test_the_finder_sets_the_learning_rate(start, tmp_path):
    start(tmp_path, *FINDER, "trainer.max_steps=2")
    last = _load(tmp_path / "checkpoints" / "last.ckpt")
    assert last["global_step"] == 2
    group = last["optimizer_states"][0]["param_groups"][0]
    assert 1e-6 < group["initial_lr"] < 0.1
    assert group["lr"] == group["initial_lr"] == last["lr_schedulers"][0]["base_lrs"][0]
    assert not list(tmp_path.glob(".lr_find*"))


def test_a_resumed_run_keeps_the_rate_that_was_found(start, tmp_path, monkeypatch):
    steps, cuts, original = [], [], DetectorModule.training_step

    def training_step(self, batch, batch_idx):
        is_finder = self.trainer.max_steps != 4
        if cuts and self.global_step == 2 and not is_finder:
            raise OSError(cuts.pop())
        steps.append(self.global_step)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(DetectorModule, "training_step", training_step)
    start(tmp_path / "whole", *FINDER, "trainer.max_steps=4")
    cuts.append("power cut")
    with pytest.raises(OSError, match="power cut"):
        start(tmp_path / "cut", *FINDER, "trainer.max_steps=4")
    steps.clear()
    start(tmp_path / "cut", *FINDER, "trainer.max_steps=4")
    assert steps == [2, 3]
    whole, resumed = (_load(tmp_path / k / "checkpoints" / "last.ckpt") for k in ("whole", "cut"))
    _assert_equal(whole["state_dict"], resumed["state_dict"])
    assert whole["lr_schedulers"] == resumed["lr_schedulers"]


def test_overfitting_sees_the_same_batches(start, tmp_path, monkeypatch):
    seen = []
    original = DetectorModule.training_step

    def training_step(self, batch, batch_idx):
        seen.append([(s.image_id, int(s.image.sum())) for s in batch.samples])
        return original(self, batch, batch_idx)

    monkeypatch.setattr(DetectorModule, "training_step", training_step)
    start(tmp_path, "debug=overfit", "trainer.max_steps=6", "compute_ap=false")
    assert len(seen) == 6
    assert seen[0] != seen[1]
    assert seen[0::2] == [seen[0]] * 3
    assert seen[1::2] == [seen[1]] * 3


@pytest.mark.parametrize("debug", ["fast", "limit"])
def test_debugging_runs_end(start, tmp_path, debug):
    metrics = start(tmp_path, f"debug={debug}", "compute_ap=false")
    assert metrics["num_images"] == (2 if debug == "fast" else 5)


def test_validation_losses_are_logged_and_repeat(start, tmp_path):
    start(tmp_path, *SHORT, "trainer.max_steps=4", "validation_losses=true", "optimizer.lr=1e-20",
          "trainer.val_check_interval=2")  # fmt: skip
    rows = [*csv.DictReader((tmp_path / "csv" / "metrics.csv").read_text().splitlines())]
    losses = [float(row["val/loss"]) for row in rows if row.get("val/loss")]
    assert len(losses) == 2
    assert losses[0] > 0
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    parts = [k for k in rows[0] if k.startswith("val/loss_")]
    assert {"val/loss_semantic", "val/loss_mask", "val/loss_box_class"} <= set(parts)
