from types import SimpleNamespace

import pytest

from refine.callbacks import outlook
from refine.callbacks.outlook import TIMED, WARM_UP, Outlook


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
