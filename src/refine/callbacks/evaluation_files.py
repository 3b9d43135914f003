"""Files that an evaluation leaves for each image: a picture, the raw prediction."""

from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from refine.prediction_cache.cache import PredictionWriter
from refine.training.detector_module import DetectorModule
from refine.types import Batch
from refine.viz.comparison import draw_pixel_comparison
from refine.viz.image_files import write_png
from refine.viz.panels import original_image


class Pictures(Callback):
    """Draws the first images of the final evaluation: image, ground truth, prediction and errors.

    Each process draws ``count``; the PNGs in ``run_dir/pictures`` are named after their images.
    """

    def __init__(self, run_dir: str, *, count: int) -> None:
        self.folder = Path(run_dir) / "pictures"
        self.count = count
        self._drawn = 0

    def on_validation_start(self, *_: Any) -> None:
        """Start counting again."""
        self._drawn = 0

    def on_validation_batch_end(
        self, _trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        """Draw the images of the batch until ``count`` is reached."""
        detector = cast(DetectorModule, module)
        if not detector.is_final_evaluation:
            return
        categories = detector.evaluation.quality.categories
        for sample, (_evidence, panoptic) in zip(batch.samples, outputs["outputs"], strict=True):
            if self._drawn < self.count and sample.truth and not sample.is_padding:
                image = original_image(sample)
                picture = draw_pixel_comparison(image, sample.truth, panoptic, categories)
                write_png(self.folder / f"{Path(sample.file_name).stem}.png", picture)
                self._drawn += 1


class SavePredictions(Callback):
    """Writes the raw prediction of every image to ``writer``; the caller finishes the cache."""

    def __init__(self, writer: PredictionWriter) -> None:
        self.writer = writer

    def on_validation_batch_end(
        self, _trainer: pl.Trainer, _module: pl.LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        """Write the images of the batch, except those that only fill up a distributed sampler."""
        for sample, (evidence, _panoptic) in zip(batch.samples, outputs["outputs"], strict=True):
            if not sample.is_padding:
                self.writer.write(sample.image_id, evidence.raw)
