"""Tables and pictures of validations, for the W&B run."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from refine.callbacks.wandb_run import TABLE_KEY, WandbRun
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
_PICTURE_KEYS = (PANOPTIC_KEY, ITERATIONS_KEY, DECISIONS_KEY)


class WandbMedia(Callback):
    """Logs a table per category at every validation, and pictures of the same images once an epoch.

    A validation draws if none has drawn in this epoch, or if it ends the run. Only the first
    process draws and logs, of several devices those images that it sees; without a W&B logger none
    does.

    Args:
        count: Number of images with ground truth, prediction and errors.
        num_iterations: Number of them that show IBPP's iterations; the network runs again for it.
        num_decisions: Number of them that show which of two overlapping instances was put on top.
        pairs: Maximum number of decisions per image; those with the largest common area are shown.
        image_ids: Ids of the images; None takes the first ones of the split.
        max_side_px: Longest side of a panel.
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
        self.limits = dict(zip(_PICTURE_KEYS, (count, num_iterations, num_decisions), strict=True))
        self.pairs = pairs
        self.image_ids = None if image_ids is None else frozenset(image_ids)
        self.max_side_px = max_side_px
        self._drawn_epoch = -1
        self._pictures: defaultdict[str, dict[str, np.ndarray]] = defaultdict(dict)

    def on_validation_start(self, *_: Any) -> None:
        """Forget the pictures of the validation before."""
        self._pictures.clear()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        *_: Any,
    ) -> None:
        """Draw the images of the batch that are wanted."""
        module = cast(DetectorModule, pl_module)
        if trainer.sanity_checking or _find_logger(trainer) is None:
            return
        if trainer.current_epoch == self._drawn_epoch and not module.is_final_evaluation:
            return
        wanted = [k for k, s in enumerate(batch.samples) if s.truth and not s.is_padding]
        if self.image_ids is not None:
            wanted = [k for k in wanted if batch.samples[k].image_id in self.image_ids]
        wanted = wanted[: self._room(PANOPTIC_KEY)]
        for k in wanted:
            self._draw(batch.samples[k], outputs["outputs"][k], module)
        wanted = wanted[: self._room(ITERATIONS_KEY)]
        if wanted and module.pipeline.network.num_iterations:
            categories, merge = module.evaluation.quality.categories, module.pipeline.fusion.merge
            traces = module.pipeline.network.trace(batch)
            for k in wanted:
                image, name = original_image(batch.samples[k]), batch.samples[k].file_name
                picture = draw_iterations(image, traces[k], categories, merge)
                self._pictures[ITERATIONS_KEY][name] = picture

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the table and the pictures."""
        logger, result = _find_logger(trainer), cast(DetectorModule, pl_module).result
        if logger is None or result is None:
            return
        step, columns = trainer.global_step, list(result.rows[0]._fields)
        logger.log_table(TABLE_KEY, columns, [list(row) for row in result.rows], step=step)
        for key, pictures in self._pictures.items():
            images, names = pad_to_one_size(list(pictures.values())), list(pictures)  # W&B's wish
            file_types = ["jpg"] * len(pictures)
            logger.log_image(key, images, step=step, caption=names, file_type=file_types)
            self._drawn_epoch = trainer.current_epoch
        self._pictures.clear()

    def _room(self, key: str) -> int:
        return self.limits[key] - len(self._pictures.get(key, ()))

    def _draw(
        self, sample: Sample, output: tuple[Evidence, PanopticPrediction], module: DetectorModule
    ) -> None:
        evidence, panoptic = output
        image, truth, name = original_image(sample), sample.truth, sample.file_name
        categories, fusion = module.evaluation.quality.categories, module.pipeline.fusion
        assert truth is not None
        self._pictures[PANOPTIC_KEY][name] = draw_segment_comparison(
            image, truth, panoptic, categories, max_side_px=self.max_side_px
        )
        if not self._room(DECISIONS_KEY):
            return
        if decisions := find_decisions(evidence, fusion, truth, limit=self.pairs):
            picture = draw_decisions(image, decisions, categories, truth=truth)
            self._pictures[DECISIONS_KEY][name] = picture


def _find_logger(trainer: pl.Trainer) -> WandbRun | None:
    """The W&B logger, on the first process."""
    loggers = trainer.loggers if trainer.is_global_zero else []
    return next((logger for logger in loggers if isinstance(logger, WandbRun)), None)
