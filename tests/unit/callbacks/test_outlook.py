from types import SimpleNamespace

import pytest
import torch

from refine.callbacks import outlook
from refine.callbacks.outlook import TIMED, WARM_UP, Outlook
from refine.detector.model_costs import ModelCosts


@pytest.mark.parametrize("begin", [0, 100])
def test_says_the_work_at_the_start_and_the_end_once_the_speed_is_known(begin, monkeypatch, capsys):
    clock = [1000.0]
    monkeypatch.setattr(outlook.time, "monotonic", lambda: clock[0])
    trainer = SimpleNamespace(
        max_steps=1000, global_step=begin, accumulate_grad_batches=2, is_global_zero=True
    )
    callback = Outlook(images=500, batch_size=4)
    callback.on_train_start(trainer, None)
    assert "1000 steps of 8 images" in (said := capsys.readouterr().out)
    assert "500 images 16.0 times" in said
    assert ("from step 100" in said) == bool(begin)
    for k in range(200):
        clock[0] += 30.0 if k < WARM_UP else 2.0  # the first steps say nothing
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, None)
    said = capsys.readouterr().out
    seconds = 2 * (1000 - begin - WARM_UP - TIMED)
    assert f"4.0 images/s: the rest takes 0:{seconds // 60}:{seconds % 60:02}" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("free", "hours", "advice"),
    [
        (8, 0.5, []), (None, 0.5, []), (3, 0.5, ["TOO LARGE", "data.batch_size"]),
        (8, 30, ["LONG", "schedule.max_steps"]), (3, 30, ["TOO LARGE", "LONG"]),
    ],
)  # fmt: skip
def test_the_estimate_says_what_to_lower(free, hours, advice):
    bytes_ = None if free is None else free * 2**30
    device = torch.device("cpu")
    line = outlook.describe(4 * 2**30, bytes_, seconds=2.5, hours=hours, device=device)
    assert line.startswith("estimate: 4.0 GiB" + (f" of {free}.0 free" if free else ""))
    assert "2.5 s a step" in line
    assert ("30 min" if hours == 0.5 else "30.0 h") in line
    assert all(part in line for part in advice)
    assert ("TOO LARGE" in line, "LONG:" in line) == ("TOO LARGE" in advice, "LONG" in advice)
    for seconds, said in ((0.0512, "0.051"), (9.96, "10"), (183.4, "183")):
        line = outlook.describe(1, bytes_, seconds=seconds, hours=hours, device=device)
        assert f", {said} s a step, " in line


def test_the_estimate_is_of_one_device_and_its_precision(monkeypatch, capsys):
    monkeypatch.setattr(outlook, "measure_flops", lambda *_: 4e9)
    monkeypatch.setattr(outlook, "free_bytes", lambda _: 10 * 2**30)
    costs = ModelCosts(
        parameters=1, dense_flops=1, roi_flops=1, training_flops=10**9, fixed_bytes=2**30,
        image_bytes=2**28,
    )  # fmt: skip
    trainer = SimpleNamespace(
        max_steps=3600, global_step=0, accumulate_grad_batches=2, is_global_zero=True,
        world_size=2, precision="32-true",
    )  # fmt: skip
    module = SimpleNamespace(device=torch.device("cpu"))
    callback = Outlook(images=500, batch_size=8, costs=costs)
    callback.on_train_start(trainer, module)
    # 4 images a device: 1.2 * (1 + 4 / 4) GiB; 2 * 4 images of 1e9 at half of 4e9 a second
    assert "estimate: 2.4 GiB of 10.0 free (cpu), 4 s a step, 4.0 h\n" in capsys.readouterr().out
    trainer.precision = "bf16-mixed"
    callback.on_train_start(trainer, module)
    assert "estimate: 1.8 GiB" in capsys.readouterr().out
