"""Pictures of an evaluation: image, ground truth, prediction, and where they differ."""

from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from refine.categories import CategoryTable
from refine.training.detector_module import DetectorModule
from refine.types import Batch
from refine.viz.files import resize_image, write_png
from refine.viz.overlay import draw_triptych


class Pictures(Callback):
    """Draws the first images of an evaluation (not of the validations within a training).

    Args:
        folder: Receives one PNG an image, named after it.
        categories: Names and colours.
        count: Images to draw, on each process.
    """

    def __init__(self, folder: Path, categories: CategoryTable, *, count: int) -> None:
        self.folder = folder
        self.categories = categories
        self.count = count
        self._drawn = 0

    def on_validation_start(self, *_: Any) -> None:
        """Start anew."""
        self._drawn = 0

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,  # noqa: ARG002 - Lightning's signature
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        *_: Any,
    ) -> None:
        """Draw the batch's images until ``count`` is reached."""
        if not cast(DetectorModule, pl_module).is_final_evaluation:
            return
        for sample, (_, panoptic) in zip(batch.samples, outputs["outputs"], strict=True):
            if self._drawn == self.count or sample.truth is None or sample.is_padding:
                continue
            image = sample.image.permute(1, 2, 0).cpu().numpy()
            picture = draw_triptych(
                resize_image(image, sample.original_size),
                sample.truth,
                panoptic,
                self.categories,
            )
            write_png(self.folder / f"{Path(sample.file_name).stem}.png", picture)
            self._drawn += 1
