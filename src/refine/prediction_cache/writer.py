"""Raw predictions into a cache, by any number of processes, in any number of attempts."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from refine.errors import RefineError
from refine.prediction_cache.files import CacheFiles, read_record, write_json, write_tensors
from refine.prediction_cache.forms import to_tensors
from refine.prediction_cache.header import CacheHeader, hash_image_ids
from refine.types import RawPrediction


class PredictionWriter:
    """Writes predictions, one file an image, and at the end the index.

    An interrupted write goes on where it stopped: open the folder again with the same header and
    predict :meth:`missing` images only. Processes need not know of each other, until one of them
    calls :meth:`finish` when all are done.

    Args:
        folder: Created when needed; empty, or a cache with this very header.
        header: What the cache is going to hold.

    Raises:
        RefineError: The folder holds something else, a cache of another header (the first
            difference is named), or cannot be written.
    """

    def __init__(self, folder: Path, header: CacheHeader) -> None:
        self.files = CacheFiles(folder)
        self.header = header
        self._digest = header.digest
        if not self.files.header.exists():
            _require_empty(self.files)
            write_json(self.files.header, header.to_json())
        difference = self.files.load_header().first_difference(header)
        if difference is not None:
            raise RefineError(
                f"{folder}: holds other predictions ({difference}); delete them or choose "
                "another save_predictions"
            )

    def has(self, image_id: int) -> bool:
        """Whether the prediction of an image is there, whole and of this cache."""
        try:
            record = read_record(self.files.image(image_id))
        except RefineError:
            return False
        return record.get("cache") == self._digest

    def missing(self, image_ids: Iterable[int]) -> list[int]:
        """Those of the images that are still to be predicted, in the same order."""
        return [image_id for image_id in image_ids if not self.has(image_id)]

    def write(self, image_id: int, raw: RawPrediction) -> None:
        """Write the prediction of one image, over an older one if there is any.

        Args:
            image_id: Its id in the dataset.
            raw: What the network says, on any device, with all heads that the header names.

        Raises:
            RefineError: The prediction is not finite, or the file cannot be written.
            ValueError: The prediction has other heads or categories than the header says.
        """
        self._check(image_id, raw)
        record = {
            "cache": self._digest,
            "image_id": image_id,
            "image_size": raw.image_size,
            "original_size": raw.original_size,
        }
        write_tensors(self.files.image(image_id), to_tensors(raw, self.header.form), record)

    def finish(self, image_ids: Sequence[int]) -> None:
        """Mark the cache as complete; one process calls it, once all have written.

        Args:
            image_ids: All images of the dataset, in its order.

        Raises:
            RefineError: An image is missing or torn.
            ValueError: These are not the images of the header.
        """
        if hash_image_ids(list(image_ids)) != self.header.dataset.image_ids:
            raise ValueError("finish() needs the image ids of the header's dataset, in its order")
        absent = self.missing(image_ids)
        if absent:
            raise RefineError(
                f"{self.files.folder}: {len(absent)} of {len(image_ids)} images have no "
                f"prediction, the first is image {absent[0]}; run the same command again"
            )
        for part in self.files.images.glob(".*.part"):  # of processes that were killed
            part.unlink(missing_ok=True)
        write_json(self.files.index, {"image_ids": list(image_ids)})

    def _check(self, image_id: int, raw: RawPrediction) -> None:
        heads = (set(raw.occlusions), set(raw.rankings))
        expected = (set(self.header.occlusion_heads), set(self.header.ranking_heads))
        if heads != expected:
            raise ValueError(f"image {image_id}: heads {heads}, the header names {expected}")
        num_categories = len(self.header.dataset.categories)
        if len(raw.semantic_logits) != num_categories:
            raise ValueError(f"image {image_id}: expected {num_categories} semantic categories")
        for name, values in _named_values(raw).items():
            # NaN and infinity reach the sum
            if not values.sum(dtype=torch.float32).isfinite():
                raise RefineError(
                    f"image {image_id}: the network's output is not finite ({name}); use an "
                    "earlier checkpoint or train with a lower optimizer.lr"
                )


def _named_values(raw: RawPrediction) -> dict[str, Tensor]:
    names = ("boxes", "scores", "mask_logits", "semantic_logits")
    return {
        **{name: getattr(raw, name) for name in names},
        **{f"occlusion/{name}": o.probabilities for name, o in raw.occlusions.items()},
        **{f"ranking/{name}": r for name, r in raw.rankings.items()},
    }


def _require_empty(files: CacheFiles) -> None:
    folder = files.folder
    if folder.exists() and not folder.is_dir():
        raise RefineError(f"{folder}: a file, no folder; choose another save_predictions")
    strangers = [p.name for p in folder.glob("[!.]*")] if folder.is_dir() else []
    # another process may have come first: its header stands before any other of its files
    if strangers and not files.header.exists():
        raise RefineError(
            f"{folder}: holds {strangers[0]} and is no prediction cache; choose an empty folder "
            "as save_predictions"
        )
