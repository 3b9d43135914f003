"""What a training will take: its work when it starts, its time once its speed is known."""

import time
from datetime import datetime, timedelta
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from refine.detector.model_costs import ModelCosts
from refine.ops.machine import free_bytes, measure_flops
from refine.runs.console import say

WARM_UP, TIMED = 10, 50
"""Steps that are not timed (the first ones are slower), and steps that are."""

EFFICIENCY = {"cpu": 0.5, "cuda": 0.25}
"""Share of a convolution's speed that a whole training step reaches."""

LEAST_SECONDS = {"cpu": 0.0, "cuda": 0.05}
"""What the many small operations of a step take beside that."""

LONG_HOURS = 24.0
"""A training that takes longer is advised to do less."""


class Outlook(Callback):
    """Prints what a training takes when it starts, and more after ``WARM_UP + TIMED`` steps.

    Args:
        images: Images of the training split.
        batch_size: Images of a batch over all devices.
        costs: Costs of the network at the size of training images; None: no estimate.
    """

    def __init__(self, *, images: int, batch_size: int, costs: ModelCosts | None = None) -> None:
        self.images = images
        self.batch_size = batch_size
        self.costs = costs
        self._begin = (0, 0.0)  # step and time

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
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
            if self.costs is not None:
                say(self._estimate(trainer, self.costs, module.device))

    def _estimate(self, trainer: pl.Trainer, costs: ModelCosts, device: torch.device) -> str:
        """Memory and time, and what to lower if they are too much."""
        is_half = "16" in str(trainer.precision)
        share = -(-self.batch_size // trainer.world_size)
        needed, free = costs.training_bytes(share, is_half=is_half), free_bytes(device)
        is_fast = is_half and device.type == "cuda"
        speed = measure_flops(device, torch.bfloat16 if is_fast else torch.float32)
        rate = EFFICIENCY.get(device.type, 0.3) * speed
        per_step = share * trainer.accumulate_grad_batches * costs.training_flops
        seconds = per_step / rate + LEAST_SECONDS.get(device.type, 0.0)
        hours = (trainer.max_steps - trainer.global_step) * seconds / 3600
        return describe(needed, free, seconds=seconds, hours=hours, device=device)

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


def describe(
    needed: float, free: int | None, *, seconds: float, hours: float, device: torch.device
) -> str:
    """One line: an estimate in bytes, seconds a step and hours; what to lower if it is too much."""
    known = "" if free is None else f" of {free / 2**30:.1f} free"
    time_ = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
    step = f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}"
    line = f"estimate: {needed / 2**30:.1f} GiB{known} ({device}), {step} s a step, {time_}"
    advice = []
    if free is not None and needed > free:
        advice.append(
            "TOO LARGE for the memory: lower data.batch_size (and raise "
            "trainer.accumulate_grad_batches) or data.image.train_short_sides_px"
        )
    if hours > LONG_HOURS:
        advice.append(
            "LONG: lower schedule.max_steps or data.image.train_short_sides_px, choose a smaller "
            "model.backbone.name, or use a GPU (trainer=gpu)"
        )
    return "; ".join([line, *advice])
