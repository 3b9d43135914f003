"""Pictures of an evaluation: image, ground truth, prediction and errors."""

from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from refine.categories import CategoryTable
from refine.training.detector_module import DetectorModule
from refine.types import Batch
from refine.viz.comparison import draw_pixel_comparison
from refine.viz.image_files import write_png
from refine.viz.panels import original_image


class Pictures(Callback):
    """Draws the first images of the final evaluation, but not of validations during training.

    Args:
        folder: Folder of the PNGs, which are named after their images.
        categories: Names and colours.
        count: Number of images that each process draws.
    """

    def __init__(self, folder: Path, categories: CategoryTable, *, count: int) -> None:
        self.folder = folder
        self.categories = categories
        self.count = count
        self._drawn = 0

    def on_validation_start(self, *_: Any) -> None:
        """Start counting again."""
        self._drawn = 0

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,  # noqa: ARG002 - Lightning's signature
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        *_: Any,
    ) -> None:
        """Draw the images of the batch until ``count`` is reached."""
        if not cast(DetectorModule, pl_module).is_final_evaluation:
            return
        for sample, (_, panoptic) in zip(batch.samples, outputs["outputs"], strict=True):
            if self._drawn == self.count or sample.truth is None or sample.is_padding:
                continue
            picture = draw_pixel_comparison(
                original_image(sample), sample.truth, panoptic, self.categories
            )
            write_png(self.folder / f"{Path(sample.file_name).stem}.png", picture)
            self._drawn += 1
