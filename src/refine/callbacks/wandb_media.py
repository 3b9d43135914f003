"""Tables and pictures of every validation, for the W&B run."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from refine.callbacks.wandb_run import TABLE_KEY, WandbRun, to_pictures, to_table
from refine.fusion.evidence import Evidence
from refine.training.detector_module import DetectorModule
from refine.types import Batch, PanopticPrediction, Sample
from refine.viz.comparison import draw_segment_comparison
from refine.viz.decisions import draw_decisions, find_decisions
from refine.viz.iteration_rows import draw_iterations
from refine.viz.panels import original_image, pad_to_one_size

PANOPTIC_KEY = "pictures/panoptic"
ITERATIONS_KEY = "pictures/iterations"
DECISIONS_KEY = "pictures/decisions"


class WandbMedia(Callback):
    """Per-category table at every validation; pictures of the same few images once an epoch.

    A validation draws if none has in this epoch, or if it ends the run. Only the first process
    logs: with several devices, those images of the list that it sees. Without a W&B logger nothing
    is drawn.

    Args:
        count: Images with ground truth | prediction | errors.
        num_iterations: So many of these show IBPP's iterations, too; the network runs once more on
            a batch that has one.
        num_decisions: So many show which of two overlapping instances was put on top, if any
            overlap.
        pairs: Decisions an image, those with the largest common area.
        image_ids: The images; None takes the first ones of the split.
        max_side_px: Of a panel.
    """

    def __init__(
        self,
        *,
        count: int = 16,
        num_iterations: int = 4,
        num_decisions: int = 16,
        pairs: int = 4,
        image_ids: Sequence[int] | None = None,
        max_side_px: int = 640,
    ) -> None:
        self.count = count
        self.num_iterations = num_iterations
        self.num_decisions = num_decisions
        self.pairs = pairs
        self.image_ids = None if image_ids is None else frozenset(image_ids)
        self.max_side_px = max_side_px
        self._drawn_epoch = -1
        self._pictures: defaultdict[str, dict[str, np.ndarray]] = defaultdict(dict)

    def setup(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002 - Lightning's signature
        stage: str,  # noqa: ARG002
    ) -> None:
        """Start the run, so that a training that fails at its first step has one."""
        logger = _find_logger(trainer)
        if logger is not None:
            _ = logger.experiment

    def on_validation_start(self, *_: Any) -> None:
        """Start anew."""
        self._pictures.clear()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        *_: Any,
    ) -> None:
        """Draw the images of the batch that are on the list."""
        if not isinstance(pl_module, DetectorModule) or not self._is_due(trainer, pl_module):
            return
        listed = [k for k, sample in enumerate(batch.samples) if self._is_listed(sample)]
        chosen = listed[: self.count - len(self._pictures[PANOPTIC_KEY])]
        for k in chosen:
            evidence, panoptic = outputs["outputs"][k]
            self._draw(batch.samples[k], evidence, panoptic, pl_module)
        self._draw_iterations(batch, chosen, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the table, and what was drawn."""
        logger = _find_logger(trainer)
        if logger is None or not isinstance(pl_module, DetectorModule):
            return
        if pl_module.result is None or not trainer.is_global_zero:
            return
        rows = [asdict(row) for row in pl_module.result.rows]
        values = {TABLE_KEY: to_table(list(rows[0]), [list(row.values()) for row in rows])}
        for key, pictures in self._pictures.items():
            if pictures:
                values[key] = to_pictures(pad_to_one_size(list(pictures.values())), list(pictures))
                self._drawn_epoch = trainer.current_epoch
        logger.log_metrics(values, step=trainer.global_step)
        self._pictures.clear()

    def _is_due(self, trainer: pl.Trainer, module: DetectorModule) -> bool:
        if trainer.sanity_checking or not trainer.is_global_zero or _find_logger(trainer) is None:
            return False
        return module.is_final_evaluation or trainer.current_epoch != self._drawn_epoch

    def _is_listed(self, sample: Sample) -> bool:
        if sample.truth is None or sample.is_padding:
            return False
        return self.image_ids is None or sample.image_id in self.image_ids

    def _draw(
        self, sample: Sample, evidence: Evidence, found: PanopticPrediction, module: DetectorModule
    ) -> None:
        truth = sample.truth
        assert truth is not None
        image, categories = original_image(sample), module.evaluation.quality.categories
        self._pictures[PANOPTIC_KEY][sample.file_name] = draw_segment_comparison(
            image, truth, found, categories, max_side_px=self.max_side_px
        )
        if len(self._pictures[DECISIONS_KEY]) == self.num_decisions:
            return
        fusion = module.pipeline.fusion
        decisions = find_decisions(evidence, fusion, truth, limit=self.pairs)
        if decisions:
            picture = draw_decisions(image, decisions, categories, truth=truth)
            self._pictures[DECISIONS_KEY][sample.file_name] = picture

    def _draw_iterations(self, batch: Batch, chosen: Sequence[int], module: DetectorModule) -> None:
        wanted = chosen[: self.num_iterations - len(self._pictures[ITERATIONS_KEY])]
        network, categories = module.pipeline.network, module.evaluation.quality.categories
        if not wanted or not network.num_iterations:
            return
        traces = network.trace(batch)
        for k in wanted:
            sample, merge = batch.samples[k], module.pipeline.fusion.merge
            picture = draw_iterations(original_image(sample), traces[k], categories, merge)
            self._pictures[ITERATIONS_KEY][sample.file_name] = picture


def _find_logger(trainer: pl.Trainer) -> WandbRun | None:
    return next((logger for logger in trainer.loggers if isinstance(logger, WandbRun)), None)
