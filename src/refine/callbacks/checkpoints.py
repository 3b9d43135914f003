"""The checkpoint from which a run is resumed, and how checkpoints are written."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint

from refine.atomic import write_atomically
from refine.config.interruption import end_step, start_steps, stop_steps
from refine.errors import RefineError, first_line


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``: saved every so many steps, when a run is interrupted, and at its end.

    Ctrl-C, SIGTERM and Slurm's SIGUSR1 take effect between two steps, the same ones in every
    process of the run, so that what is saved is the whole last step.
    """

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

    def on_train_start(self, *args: Any) -> None:
        """From here on a signal waits for the end of the step."""
        super().on_train_start(*args)
        start_steps()

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """Save if it is time; then end or requeue the run if a signal has come."""
        super().on_train_batch_end(trainer, *args, **kwargs)
        _end_step(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        """End or requeue the run if a signal has come."""
        _end_step(trainer)

    def on_exception(self, *args: Any) -> None:
        """Save the last step; signals take effect at once again."""
        stop_steps()
        super().on_exception(*args)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last steps, however few they are since the last checkpoint."""
        super().on_train_end(trainer, pl_module)
        if self.dirpath is not None and self.filename is not None:
            trainer.save_checkpoint(Path(self.dirpath) / f"{self.filename}.ckpt")
        stop_steps()


def _end_step(trainer: pl.Trainer) -> None:
    def agree(number: int) -> int:
        if trainer.world_size == 1:
            return number
        own = torch.tensor(number, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(own, reduce_op="max"))

    end_step(agree)


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its target and renames it: the one before stays until then."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ARG002
    ) -> None:
        """Write the file; a ``RefineError`` says why it cannot be written."""
        path = Path(path)
        try:
            if not path.parents[1].is_dir():
                raise FileNotFoundError(2, "the folder has vanished")
            with write_atomically(path) as part:
                torch.save(checkpoint, part)
            if path.name == "last.ckpt":  # Lightning would resume what it saved for Slurm before
                for older in path.parents[1].glob("hpc_ckpt_*.ckpt"):
                    older.unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:
            raise RefineError(
                f"{path}: cannot be written ({first_line(error)[:80]}); make room, or choose "
                "another folder with hydra.run.dir=FOLDER. Earlier checkpoints are intact"
            ) from None
