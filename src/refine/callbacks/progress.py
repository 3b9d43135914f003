"""Progress bar with steps, losses and speed."""

from collections import defaultdict
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar

_PREFIX = "train/"


class Progress(RichProgressBar):
    """Lightning's rich progress bar, with the step of the run and the losses at its end."""

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The values at the end of the bar."""
        metrics: dict[str, Any] = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        # the bar is narrow: rpn_objectness and rpn_box become rpn
        groups: defaultdict[str, float] = defaultdict(float)
        for name, value in trainer.callback_metrics.items():
            if name.startswith(_PREFIX):
                groups[name.removeprefix(_PREFIX).split("_")[0]] += float(value)
        others = {k: v for k, v in metrics.items() if not k.startswith(_PREFIX)}
        losses = {name: f"{value:.2f}" for name, value in groups.items()}
        return {"step": f"{trainer.global_step}/{trainer.max_steps}", **losses, **others}

    def _get_train_description(self, current_epoch: int) -> str:
        # runs are counted in steps: Lightning's "3/-2" says nothing
        return f"epoch {current_epoch}"
