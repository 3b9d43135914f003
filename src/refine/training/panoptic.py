"""Stage 1: the detector and its semantic head, end to end."""

import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from refine.categories import CategoryTable
from refine.detector.total_loss import compute_loss_weights, total_loss
from refine.errors import RefineError
from refine.evaluation.evaluator import Evaluation, EvaluationResult
from refine.fusion.evidence import Evidence
from refine.metrics.average_precision import AveragePrecision
from refine.options import OptimizerOptions, ScheduleOptions
from refine.pipeline import Pipeline
from refine.training.optim import build_optimizer, build_schedule
from refine.types import Batch, PanopticPrediction


class PanopticModule(pl.LightningModule):
    """Trains a pipeline's network and evaluates the whole pipeline.

    Args:
        pipeline: Network and fusion.
        categories: Of the dataset.
        optimizer: Optimiser.
        schedule: Learning rate over the steps.
        seed: RoIs and anchors of a batch are drawn from (seed, position in the run, rank).
        record: Plain containers that every checkpoint carries (:mod:`refine.runs.checkpoint`).
        compute_ap: Box and mask AP in the final evaluation.

    Attributes:
        evaluation: Counts of the validation that runs.
        result: Of the last validation.
        result_step: Steps that had been trained by then.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        categories: CategoryTable,
        *,
        optimizer: OptimizerOptions,
        schedule: ScheduleOptions,
        seed: int,
        record: dict[str, Any],
        compute_ap: bool,
    ) -> None:
        super().__init__()
        self.pipeline = pipeline
        self.optimizer_options = optimizer
        self.schedule_options = schedule
        self.seed = seed
        self.record = record
        self.compute_ap = compute_ap
        self.loss_weights = compute_loss_weights(pipeline.network.options)
        self.evaluation = Evaluation(categories, pipeline.fusion)
        self.result: EvaluationResult | None = None
        self.result_step = -1

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Weighted sum of the losses."""
        generator = torch.Generator().manual_seed(self._draw_seed(batch_idx))
        losses = self.pipeline.network.loss(batch, generator=generator, step=self.global_step)
        total = total_loss(losses, self.loss_weights)
        values = {name: value.detach() for name, value in losses.items()}
        if not torch.isfinite(total):
            listed = ", ".join(f"{name} {float(value):.3g}" for name, value in values.items())
            raise RefineError(
                f"the loss is not finite at step {self.global_step} ({listed}); lower "
                "optimizer.lr, raise schedule.warmup_steps or set trainer.gradient_clip_val"
            )
        size = len(batch.samples)
        self.log("train/loss", total.detach(), prog_bar=True, batch_size=size)
        self.log_dict({f"train/{name}": v for name, v in values.items()}, batch_size=size)
        return total

    @property
    def is_final_evaluation(self) -> bool:
        """Whether the validation that runs ends the run: its own, or that after the last step."""
        trainer = self.trainer
        is_over = 0 < trainer.max_steps <= trainer.global_step
        return is_over or trainer.state.fn == TrainerFn.VALIDATING

    def on_validation_epoch_start(self) -> None:
        """Start counting anew."""
        wants_ap = self.compute_ap and self.is_final_evaluation
        self.evaluation.average_precision = AveragePrecision() if wants_ap else None
        self.evaluation.reset()

    def validation_step(self, batch: Batch) -> dict[str, list[tuple[Evidence, PanopticPrediction]]]:
        """Predict and count; callbacks find the pipeline's output under ``outputs``."""
        start = time.perf_counter()  # predict ends on the host, so this spans the device's work
        outputs = self.pipeline.predict(batch)
        self.evaluation.update(batch, outputs, time.perf_counter() - start)
        return {"outputs": outputs}

    def on_validation_epoch_end(self) -> None:
        """Log under the contract's names: ``val/pq``, ``val/pq_things``, ..."""
        self.result = self.evaluation.compute(
            lambda tensor: self.trainer.strategy.reduce(tensor, reduce_op="sum")
        )
        self.result_step = self.global_step
        self.log_dict({f"val/{k}": float(v) for k, v in self.result.metrics.items()})

    def configure_optimizers(self) -> Any:
        """Optimiser and step-wise schedule."""
        optimizer = build_optimizer(self.pipeline.network, self.optimizer_options)
        schedule = build_schedule(
            optimizer,
            self.schedule_options,
            num_steps=int(self.trainer.estimated_stepping_batches),
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the checkpoint say what it is."""
        checkpoint["refine"] = self.record

    def _draw_seed(self, batch_idx: int) -> int:
        """Distinct for every training batch and rank, and the same after a resume."""
        accumulated = self.trainer.accumulate_grad_batches
        position = self.global_step * accumulated + batch_idx % accumulated
        return (self.seed * 1_000_003 + position) * 1024 + self.global_rank
