"""``stage=panoptic``: the whole network is trained end to end."""

import time
from typing import Any

import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from refine.categories import CategoryTable
from refine.detector.losses import compute_loss_weights, total_loss
from refine.detector.refine_net import RefineNet
from refine.errors import RefineError
from refine.evaluation.evaluator import Evaluation
from refine.evaluation.result import EvaluationResult
from refine.fusion.evidence import Evidence
from refine.metrics.average_precision import AveragePrecision
from refine.pipeline import Pipeline
from refine.runs.console import say
from refine.training.base import TrainingModule
from refine.types import Batch, PanopticPrediction


class DetectorModule(TrainingModule):
    """Trains a pipeline's network and evaluates the whole pipeline.

    Args:
        pipeline: Network and fusion.
        categories: Categories of the dataset.
        compute_ap: Whether the final evaluation includes box and mask AP.
        **kwargs: See :class:`~refine.training.base.TrainingModule`.

    Attributes:
        evaluation: Counts of the running validation.
        result: Result of the last validation.
    """

    def __init__(
        self, pipeline: Pipeline, categories: CategoryTable, *, compute_ap: bool, **kwargs: Any
    ) -> None:
        super().__init__(pipeline, **kwargs)
        self.compute_ap = compute_ap
        self.loss_weights = compute_loss_weights(pipeline.network.options)
        self.evaluation = Evaluation(categories, pipeline.fusion)
        self.result: EvaluationResult | None = None

    @property
    def learning(self) -> RefineNet:
        """The network."""
        return self.pipeline.network

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Weighted sum of the losses."""
        losses = self.pipeline.network.loss(
            batch, generator=self.generator(batch_idx), step=self.global_step
        )
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
        """Whether the running validation ends the run: its own, or that after the last step."""
        trainer = self.trainer
        is_over = 0 < trainer.max_steps <= trainer.global_step
        return is_over or trainer.state.fn == TrainerFn.VALIDATING

    def on_validation_epoch_start(self) -> None:
        """Reset the counts."""
        is_training = self.trainer.state.fn == TrainerFn.FITTING and self.trainer.is_global_zero
        self._says_inputs = is_training and self.learning.num_iterations > 0
        wants_ap = self.compute_ap and self.is_final_evaluation
        self.evaluation.average_precision = AveragePrecision() if wants_ap else None
        self.evaluation.reset()

    def validation_step(self, batch: Batch) -> dict[str, list[tuple[Evidence, PanopticPrediction]]]:
        """Predict and count; callbacks find the pipeline's output under ``outputs``."""
        start = time.perf_counter()  # predict ends on the host, so this spans the device's work
        outputs = self.pipeline.predict(batch)
        self.evaluation.update(batch.samples, outputs, time.perf_counter() - start)
        if self._says_inputs:
            self._say_inputs(batch)
        if batch.samples[0].target is not None:
            self._log_losses(batch)
        return {"outputs": outputs}

    def _log_losses(self, batch: Batch) -> None:
        """Log the losses of evaluation images, with the same samples of RoIs every time."""
        generator = torch.Generator().manual_seed(batch.samples[0].image_id)
        losses = self.learning.loss(batch, generator=generator, step=self.global_step)
        values = {"val/loss": total_loss(losses, self.loss_weights)}
        values |= {f"val/loss_{name}": value for name, value in losses.items()}
        self.log_dict(values, batch_size=len(batch.samples), sync_dist=True)

    def _say_inputs(self, batch: Batch) -> None:
        """Say and log what IBPP's heads read, once per validation."""
        self._says_inputs = False
        measured = self.learning.measure_inputs(batch)
        listed = (f"{name} {mean:.2f} / {rms:.2f}" for name, (mean, rms) in measured.items())
        say(f"step {self.global_step}, heads read (mean / rms): {', '.join(listed)}")
        for name, (mean, rms) in measured.items():
            self.log(f"inputs/{name}_mean", mean, rank_zero_only=True, batch_size=1)
            self.log(f"inputs/{name}_rms", rms, rank_zero_only=True, batch_size=1)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/pq``, ``val/pq_things``, ..."""
        self.result = self.evaluation.compute(
            lambda tensor: self.trainer.strategy.reduce(tensor, reduce_op="sum")
        )
        self.result_step = self.global_step
        # all processes have the same values; Lightning asks to say so
        values = {f"val/{k}": float(v) for k, v in self.result.metrics.items()}
        self.log_dict(values, sync_dist=self.trainer.world_size > 1)
