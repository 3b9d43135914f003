"""Keeps the raw predictions of an evaluation."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from refine.prediction_cache.cache import PredictionWriter
from refine.types import Batch


class SavePredictions(Callback):
    """Writes the raw prediction of every image to ``writer``; the caller finishes the cache."""

    def __init__(self, writer: PredictionWriter) -> None:
        self.writer = writer

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,  # noqa: ARG002 - Lightning's signature
        pl_module: pl.LightningModule,  # noqa: ARG002
        outputs: Any,
        batch: Batch,
        *_: Any,
    ) -> None:
        """Write the images of the batch, except those that only fill up a distributed sampler."""
        for sample, (evidence, _) in zip(batch.samples, outputs["outputs"], strict=True):
            if not sample.is_padding:
                self.writer.write(sample.image_id, evidence.raw)
