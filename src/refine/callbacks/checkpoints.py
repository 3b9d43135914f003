"""The checkpoint that a run is resumed from."""

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``: every so many steps, when a run is interrupted, and at its end.

    Args:
        dirpath: Folder of the checkpoints.
        filename: Without suffix.
        every_n_train_steps: Steps that a crash without warning may cost.
    """

    def __init__(
        self, dirpath: str, *, filename: str = "last", every_n_train_steps: int = 1000
    ) -> None:
        super().__init__(
            dirpath=dirpath,
            filename=filename,
            every_n_train_steps=every_n_train_steps,
            save_on_train_epoch_end=False,
            save_on_exception=True,
            enable_version_counter=False,
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what the last steps learned, however few they were."""
        super().on_train_end(trainer, pl_module)
        if self.dirpath is not None and self.filename is not None:
            trainer.save_checkpoint(Path(self.dirpath) / f"{self.filename}.ckpt")
