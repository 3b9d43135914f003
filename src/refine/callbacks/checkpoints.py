"""The checkpoint from which a run is resumed."""

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``: saved every so many steps, when a run is interrupted, and at its end."""

    def __init__(
        self, dirpath: str, *, filename: str = "last", every_n_train_steps: int = 1000
    ) -> None:
        super().__init__(
            dirpath,
            filename,
            every_n_train_steps=every_n_train_steps,
            save_on_train_epoch_end=False,
            save_on_exception=True,
            enable_version_counter=False,
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last steps, however few they are since the last checkpoint."""
        super().on_train_end(trainer, pl_module)
        if self.dirpath is not None and self.filename is not None:
            trainer.save_checkpoint(Path(self.dirpath) / f"{self.filename}.ckpt")
