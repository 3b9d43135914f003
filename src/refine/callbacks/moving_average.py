"""The moving average of the weights, also in checkpoints that are saved while it is evaluated."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EMAWeightAveraging


class MovingAverage(EMAWeightAveraging):
    """Lightning's moving average, with the weights kept apart from it in every checkpoint.

    Lightning's own puts the average into the network for a validation and at the end. A checkpoint
    that is saved then (of an interrupted validation, of the last step) has each under the other's
    name, or the average under both: a run that goes on from there starts from the average.
    """

    def __init__(self, decay: float = 0.999, **options: Any) -> None:
        super().__init__(decay=decay, **options)
        self._has_ended = self._holds_average = False

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The network gets the average."""
        self._put(trainer, pl_module, average=True)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The network gets its weights back, unless the training has ended."""
        self._put(trainer, pl_module, average=self._has_ended)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The network gets the average; its weights are kept for checkpoints."""
        self._has_ended = True
        self._put(trainer, pl_module, average=True)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """``state_dict`` is the average, ``current_model_state`` the weights."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._holds_average:
            average = checkpoint["current_model_state"]
            checkpoint["current_model_state"] = checkpoint["state_dict"]
            checkpoint["state_dict"] = average

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """The network gets the weights of the checkpoint."""
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        self._has_ended = self._holds_average = False

    def _put(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *, average: bool) -> None:
        if average != self._holds_average:
            super().on_validation_epoch_start(trainer, pl_module)  # exchanges them
            self._holds_average = average
