"""The learning rate that a new run starts with."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import LearningRateFinder

from refine.runs.console import say


class FirstRate(LearningRateFinder):
    """Looks for a learning rate before a new run; a resumed one has its own in the checkpoint."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look for it, or say that it is known."""
        if trainer.ckpt_path is None:
            super().on_fit_start(trainer, pl_module)
        elif trainer.is_global_zero:
            say("learning rate: that of the checkpoint; the finder is for new runs")
