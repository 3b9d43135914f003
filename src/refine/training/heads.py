"""Stage 2: heads that order instances learn on a detector that stays as it is."""

from collections.abc import Mapping
from typing import Any, Self

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from refine.errors import RefineError
from refine.options import OptimizerOptions, ScheduleOptions
from refine.order.heads import describe_head
from refine.order.pair_accuracy import PairAccuracy
from refine.pipeline import Pipeline
from refine.training.optim import build_optimizer, build_schedule


class HeadModule(pl.LightningModule):
    """What the training of occlusion and ranking heads has in common.

    The network is frozen: no gradients, eval mode throughout (statistics do not move), and the
    optimiser does not know it.

    Args:
        pipeline: With a trained network and the heads that are to learn.
        learning: Names of these heads; others stay as they are.
        optimizer: Optimiser.
        schedule: Learning rate over the steps.
        seed: Samples of a batch are drawn from (seed, position in the run, rank).
        record: Plain containers that every checkpoint carries (:mod:`refine.runs.checkpoint`).

    Attributes:
        result: Metrics of the last validation.
        result_step: Steps that had been trained by then.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        learning: list[str],
        *,
        optimizer: OptimizerOptions,
        schedule: ScheduleOptions,
        seed: int,
        record: dict[str, Any],
    ) -> None:
        super().__init__()
        self.pipeline = pipeline.requires_grad_(False)
        self.learning = learning
        self.heads.requires_grad_(True)
        self.optimizer_options = optimizer
        self.schedule_options = schedule
        self.seed = seed
        self.record = record
        self.result: dict[str, float | int] = {}
        self.result_step = -1

    @property
    def heads(self) -> nn.ModuleDict:
        """Those that learn, by name."""
        return nn.ModuleDict({name: self.pipeline.heads[name] for name in self.learning})

    def train(self, mode: bool = True) -> Self:
        """Only the heads ever train."""
        super().train(mode)
        self.pipeline.network.eval()
        return self

    def sum_losses(self, losses: Mapping[str, Tensor], *, batch_size: int) -> Tensor:
        """Log the loss of each head; their sum trains each as if it were alone."""
        for name, loss in losses.items():
            if not torch.isfinite(loss):
                raise RefineError(
                    f"the loss of head {name!r} is not finite at step {self.global_step}; lower "
                    "the learning rate of its stage"
                )
            self.log(f"train/{name}", loss.detach(), prog_bar=True, batch_size=batch_size)
        return torch.stack(list(losses.values())).sum()

    def keep_accuracies(self, accuracy: PairAccuracy) -> None:
        """Log ``val/pair_accuracy_NAME`` and make it the result of this validation."""
        of_rules = accuracy.compute()
        self.result = {f"pair_accuracy_{name}": float(v) for name, v in of_rules.items()}
        self.result["num_pairs"] = int(accuracy.num_pairs)
        self.result_step = self.global_step
        self.log_dict({f"val/{name}": float(value) for name, value in self.result.items()})

    def generator(self, batch_idx: int) -> torch.Generator:
        """Of the CPU; distinct for every training batch and rank, the same after a resume."""
        accumulated = self.trainer.accumulate_grad_batches
        position = self.global_step * accumulated + batch_idx % accumulated
        seed = (self.seed * 1_000_003 + position) * 1024 + self.global_rank
        return torch.Generator().manual_seed(seed)

    def configure_optimizers(self) -> Any:
        """Optimiser over the heads alone, and step-wise schedule."""
        optimizer = build_optimizer(self.heads, self.optimizer_options)
        schedule = build_schedule(
            optimizer,
            self.schedule_options,
            num_steps=int(self.trainer.estimated_stepping_batches),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Any,  # noqa: ARG002 - Lightning's signature
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002
    ) -> None:
        """Clip the norm of each head by itself, as if it were alone."""
        if gradient_clip_val is not None:
            for head in self.heads.values():
                nn.utils.clip_grad_norm_(head.parameters(), gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the checkpoint say what it is, and which heads it holds."""
        heads = {name: describe_head(head) for name, head in self.pipeline.heads.items()}
        checkpoint["refine"] = self.record | {"heads": heads}
