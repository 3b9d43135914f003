"""Progress bar with steps, losses and speed."""

from collections import defaultdict
from typing import Any

import pytorch_lightning as pl
import torch
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
        losses = {k: v for k, v in trainer.callback_metrics.items() if k.startswith(_PREFIX)}
        # the host waits for the device once
        values = torch.stack([*losses.values()]).tolist() if losses else []
        for name, value in zip(losses, values, strict=True):
            groups[name.removeprefix(_PREFIX).split("_")[0]] += value
        others = {k: v for k, v in metrics.items() if not k.startswith(_PREFIX)}
        shown = {name: f"{value:.2f}" for name, value in groups.items()}
        return {"step": f"{trainer.global_step}/{trainer.max_steps}", **shown, **others}

    def _get_train_description(self, current_epoch: int) -> str:
        # runs are counted in steps: Lightning's "3/-2" says nothing
        return f"epoch {current_epoch}"
