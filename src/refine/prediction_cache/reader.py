"""Raw predictions out of a cache."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import numpy as np

from refine.errors import RefineError
from refine.options import FusionOptions
from refine.prediction_cache.files import CacheFiles, read_json, read_tensors, torn
from refine.prediction_cache.forms import from_tensors
from refine.prediction_cache.header import DatasetIdentity, hash_image_ids
from refine.types import RawPrediction


class PredictionReader:
    """A complete cache: any image by its id, or all of them one after the other.

    It holds no open file and no prediction, so it may be handed to loader processes, forked or
    spawned.

    Args:
        folder: The cache.

    Attributes:
        header: What it holds.
        image_ids: ``[N]`` int64 in the dataset's order.

    Raises:
        RefineError: The folder is missing, no cache, of another version, or cut short.
    """

    def __init__(self, folder: Path) -> None:
        self.files = CacheFiles(folder)
        self.header = self.files.load_header()
        self._digest = self.header.digest
        self.image_ids = np.array(self._read_index(), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __iter__(self) -> Iterator[tuple[int, RawPrediction]]:
        """Image ids and their predictions, one at a time."""
        for image_id in self.image_ids.tolist():
            yield image_id, self.read(image_id)

    def read(self, image_id: int) -> RawPrediction:
        """The prediction of one image, on the host.

        Raises:
            RefineError: The file is missing, torn or of another cache.
        """
        path = self.files.image(image_id)
        tensors, record = read_tensors(path)
        if record.get("cache") != self._digest or record.get("image_id") != image_id:
            raise torn(path, ValueError("it belongs to another cache or image"))
        height, width = record["image_size"]
        original_height, original_width = record["original_size"]
        try:
            return from_tensors(
                tensors,
                num_categories=len(self.header.dataset.categories),
                image_size=(height, width),
                original_size=(original_height, original_width),
            )
        except (KeyError, ValueError) as error:
            raise torn(path, error) from None

    def require_dataset(self, dataset: DatasetIdentity) -> None:
        """Refuse a cache of another dataset.

        Raises:
            RefineError: It is another one; the message says in what.
        """
        difference = dataset.difference(self.header.dataset)
        if difference is not None:
            raise RefineError(
                f"{self.files.folder}: predictions of another dataset than {dataset.name}: "
                f"{difference}; set data to theirs ({self.header.dataset.name}), or write "
                "predictions of this one"
            )

    def require_fusion(self, fusion: FusionOptions) -> None:
        """Refuse settings for which the network would say something else, or more.

        Raises:
            RefineError: The cache was written in another inference mode, or the relations need a
                head or pairs that it does not hold.
        """
        obstacle = self.header.obstacle(fusion)
        if obstacle is not None:
            raise RefineError(
                f"{self.files.folder}: cannot be fused with these settings: {obstacle}; change "
                "the setting or write another cache with save_predictions=DIR"
            )

    def _read_index(self) -> list[int]:
        stored = self.files.stored()
        image_ids = (read_json(self.files.index) or {}).get("image_ids")
        if not self._is_complete(image_ids, stored):
            raise RefineError(
                f"{self.files.folder}: cut short, {len(stored)} of "
                f"{self.header.dataset.num_images} images are there; run the command that wrote it "
                "again, it goes on where it stopped"
            )
        return image_ids

    def _is_complete(self, image_ids: object, stored: set[str]) -> TypeGuard[list[int]]:
        return (
            isinstance(image_ids, list)
            and all(type(i) is int for i in image_ids)
            and hash_image_ids(image_ids) == self.header.dataset.image_ids
            and stored.issuperset(self.files.image(i).name for i in image_ids)
        )
