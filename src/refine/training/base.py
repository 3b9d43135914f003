"""What the training of a detector and that of order heads have in common."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from refine.options import OptimizerOptions, ScheduleOptions
from refine.pipeline import Pipeline
from refine.training.optim import build_optimizer, schedule_factor


class TrainingModule(pl.LightningModule, ABC):
    """A pipeline of which one part learns.

    Args:
        pipeline: Network, fusion and heads.
        optimizer: Optimizer, with the learning rate for this batch size.
        schedule: Learning rate over the steps.
        seed: Random draws of a training batch depend on (seed, position in the run, rank).
        record: Plain containers that every checkpoint carries (:mod:`refine.runs.checkpoint`).

    Attributes:
        result_step: Trained steps at the last validation; -1 before the first.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        optimizer: OptimizerOptions,
        schedule: ScheduleOptions,
        seed: int,
        record: dict[str, Any],
    ) -> None:
        super().__init__()
        self.pipeline = pipeline
        self.optimizer_options = optimizer
        self.schedule_options = schedule
        self.seed = seed
        self.record = record
        self.result_step = -1
        self._found_lr = False

    @property
    @abstractmethod
    def learning(self) -> nn.Module:
        """The part of the pipeline that the optimizer changes."""

    @property
    def lr(self) -> float:
        """The learning rate, for Lightning's finder, which also sets it."""
        return self.optimizer_options.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self.optimizer_options = replace(self.optimizer_options, lr=value)
        self._found_lr = True

    def on_train_start(self) -> None:
        """Give a learning rate that was found to the schedule; Lightning sets the optimizer's."""
        if not self._found_lr:
            return
        for schedule in (config.scheduler for config in self.trainer.lr_scheduler_configs):
            assert isinstance(schedule, LambdaLR)
            schedule.base_lrs = [self.lr] * len(schedule.base_lrs)
            rates = zip(schedule.optimizer.param_groups, schedule.get_lr(), strict=True)
            for group, rate in rates:
                group |= {"initial_lr": self.lr, "lr": rate}

    def generator(self, batch_idx: int) -> torch.Generator:
        """CPU generator, distinct for every training batch and rank, the same after a resume."""
        accumulated = self.trainer.accumulate_grad_batches
        position = self.global_step * accumulated + batch_idx % accumulated
        seed = (self.seed * 1_000_003 + position) * 1024 + self.global_rank
        return torch.Generator().manual_seed(seed)

    def configure_optimizers(self) -> Any:
        """Optimizer of the learning part, and its step-wise schedule."""
        is_clipped_in_half = self.trainer.gradient_clip_val and "mixed" in str(
            self.trainer.precision
        )
        optimizer = build_optimizer(
            self.learning, self.optimizer_options, fused=not is_clipped_in_half
        )
        num_steps = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, schedule_factor(self.schedule_options, num_steps=num_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the record that says what the checkpoint is."""
        checkpoint["refine"] = self.record
