"""What a training will take: its work when it starts, its time once its speed is known."""

import time
from datetime import datetime, timedelta
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from refine.runs.console import say

WARM_UP, TIMED = 10, 50
"""Steps that are not timed (the first ones are slower), and steps that are."""


class Outlook(Callback):
    """Prints a line when the training starts, and one after ``WARM_UP + TIMED`` steps.

    Args:
        images: Images of the training split.
        batch_size: Images of a batch over all devices.
    """

    def __init__(self, *, images: int, batch_size: int) -> None:
        self.images = images
        self.batch_size = batch_size
        self._begin = (0, 0.0)  # step and time

    def on_train_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        """Say how much work there is."""
        self._begin = (trainer.global_step, time.monotonic())
        if trainer.is_global_zero and trainer.max_steps > 0:
            per_step = self.batch_size * trainer.accumulate_grad_batches
            rounds = trainer.max_steps * per_step / max(self.images, 1)
            after = f", from step {trainer.global_step} on" if trainer.global_step else ""
            say(
                f"trains {trainer.max_steps} steps of {per_step} images{after}: every one of "
                f"{self.images} images {rounds:.1f} times, validations not counted"
            )

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Say when it will end."""
        first, start = self._begin
        done = trainer.global_step - first
        if done == WARM_UP and start:
            self._begin = (trainer.global_step - WARM_UP, time.monotonic())
        if done != WARM_UP + TIMED or not start or trainer.max_steps <= trainer.global_step:
            return
        self._begin = (first, 0.0)  # once
        if trainer.is_global_zero:
            seconds = (time.monotonic() - start) / TIMED
            speed = self.batch_size * trainer.accumulate_grad_batches / seconds
            rest = timedelta(seconds=round((trainer.max_steps - trainer.global_step) * seconds))
            end = f"{datetime.now() + rest:%F %H:%M}"
            say(f"{speed:.1f} images/s: the rest takes {rest} without validations, to {end}")
