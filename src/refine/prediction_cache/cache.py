"""Raw predictions into a cache and out of it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refine.atomic import write_text
from refine.coco_format.png import MAX_PIXELS
from refine.errors import RefineError
from refine.fusion.evidence import require_finite
from refine.options import FusionOptions
from refine.prediction_cache.forms import from_tensors, to_tensors
from refine.prediction_cache.header import (
    FORMAT_NAME,
    FORMAT_VERSION,
    CacheHeader,
    DatasetIdentity,
    hash_image_ids,
)
from refine.prediction_cache.tensor_file import (
    read_record,
    read_tensors,
    torn,
    write_tensors,
    writing,
)
from refine.types import RawPrediction


class CacheFolder:
    """Where the parts of a cache lie."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.header_path = folder / "header.json"
        self.index_path = folder / "index.json"

    def image_path(self, image_id: int) -> Path:
        """The file of one image."""
        return self.folder / "images" / f"{image_id}.safetensors"

    def load_header(self) -> CacheHeader:
        """Read what the cache holds; a :class:`RefineError` if it is none of this version."""
        folder, fix = self.folder, "with save_predictions=DIR"
        if not folder.is_dir():
            raise RefineError(f"{folder}: no such folder; write predictions {fix}")
        content = _read_json(self.header_path)
        if content.get("format") != FORMAT_NAME:
            reason = "no prediction cache (no header.json of one)"
            raise RefineError(f"{folder}: {reason}; write one {fix}")
        if (version := content.get("version")) != FORMAT_VERSION:
            raise RefineError(
                f"{folder}: a prediction cache of version {version}, this package reads version "
                f"{FORMAT_VERSION}; write it again {fix}"
            )
        try:
            return CacheHeader.from_json(content)
        except (KeyError, TypeError, ValueError, RefineError) as error:
            raise RefineError(
                f"{self.header_path}: damaged ({error!r:.99}); write the cache again"
            ) from None


class PredictionReader(CacheFolder):
    """A complete cache: any image by its id, or all of them one after the other.

    It holds no open file and no prediction, so it may be handed to loader processes.

    Attributes:
        header: Everything that the predictions depend on.
        image_ids: ``[N]`` int64 in the dataset's order.

    Raises:
        RefineError: The folder is missing, no cache, of another version, or cut short.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.header = self.load_header()
        self._digest = self.header.digest
        stored = {path.name for path in (folder / "images").glob("*.safetensors")}
        image_ids: Any = _read_json(self.index_path).get("image_ids")
        is_list = isinstance(image_ids, list) and all(
            type(i) is int and 0 <= i < 2**63 for i in image_ids
        )
        if not (
            is_list
            and hash_image_ids(image_ids) == self.header.dataset.image_ids
            and stored.issuperset(self.image_path(i).name for i in image_ids)
        ):
            raise RefineError(
                f"{folder}: cut short, {len(stored)} of {self.header.dataset.num_images} images "
                "are there; run the command that wrote it again, it continues where it stopped"
            )
        self.image_ids = np.array(image_ids, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __iter__(self) -> Iterator[tuple[int, RawPrediction]]:
        """Image ids and their predictions, one at a time."""
        for image_id in self.image_ids.tolist():
            yield image_id, self.read(image_id)

    def read(self, image_id: int) -> RawPrediction:
        """The prediction of one image, on the host; or the error of :func:`torn`."""
        path = self.image_path(image_id)
        tensors, record = read_tensors(path)
        if record.get("cache") != self._digest or record.get("image_id") != image_id:
            raise torn(path, ValueError("it belongs to another cache or image"))
        try:
            sizes = {key: _read_size(record[key]) for key in ("image_size", "original_size")}
            categories = self.header.dataset.categories
            num_things = sum(c["isthing"] for c in categories)
            return from_tensors(tensors, len(categories), num_things=num_things, **sizes)
        except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise torn(path, error) from None

    def require_dataset(self, dataset: DatasetIdentity) -> None:
        """Raise a :class:`RefineError` that says in what the cache's dataset is another one."""
        difference = dataset.difference(self.header.dataset)
        if difference is not None:
            raise RefineError(
                f"{self.folder}: predictions of another dataset than {dataset.name}: {difference}; "
                f"set data to theirs ({self.header.dataset.name}), or write predictions of this one"
            )

    def require_fusion(self, fusion: FusionOptions) -> None:
        """Raise a :class:`RefineError` if the network would say something else, or more."""
        obstacle = self.header.obstacle(fusion)
        if obstacle is not None:
            raise RefineError(
                f"{self.folder}: cannot be fused with these settings: {obstacle}; change "
                "the setting or write another cache with save_predictions=DIR"
            )


class PredictionWriter(CacheFolder):
    """Writes predictions, one file per image, and at the end the index.

    An interrupted write continues where it stopped: open the folder again with the same header and
    predict :meth:`missing` images only. Processes need not know of each other, until one of them
    calls :meth:`finish` when all are done.

    Raises:
        RefineError: The folder holds something else, a cache of another header (the first
            difference is named), or cannot be written.
    """

    def __init__(self, folder: Path, header: CacheHeader) -> None:
        super().__init__(folder)
        self.header = header
        if not self.header_path.exists():
            self._require_empty()
            _write_json(self.header_path, header.to_json())
        stored = self.load_header()
        self._digest = stored.digest
        difference = stored.first_difference(header)
        if difference is not None:
            raise RefineError(
                f"{folder}: holds other predictions ({difference}); delete them or choose "
                "another save_predictions"
            )

    def missing(self, image_ids: Iterable[int]) -> list[int]:
        """Images without a complete prediction of this cache, in the given order."""
        records = ((i, read_record(self.image_path(i))) for i in image_ids)
        return [i for i, record in records if (record or {}).get("cache") != self._digest]

    def write(self, image_id: int, raw: RawPrediction) -> None:
        """Write the prediction of one image, on any device, over an older one if there is any.

        Raises:
            RefineError: The prediction is not finite, or the file cannot be written.
            ValueError: The prediction has other heads or categories than the header says.
        """
        self._check(image_id, raw)
        sizes = {"image_size": raw.image_size, "original_size": raw.original_size}
        record = {"cache": self._digest, "image_id": image_id, **sizes}
        write_tensors(self.image_path(image_id), to_tensors(raw, self.header.form), record)

    def finish(self, image_ids: Sequence[int]) -> None:
        """Mark the cache as complete; one process calls it, once all have written.

        Other images than the header's are a ``ValueError``, a missing one is a ``RefineError``.
        """
        if hash_image_ids(list(image_ids)) != self.header.dataset.image_ids:
            raise ValueError("finish() needs the image ids of the header's dataset, in its order")
        absent = self.missing(image_ids)
        if absent:
            raise RefineError(
                f"{self.folder}: {len(absent)} of {len(image_ids)} images have no "
                f"prediction, the first is image {absent[0]}; run the same command again"
            )
        for part in (self.folder / "images").glob(".*.part"):  # of processes that were killed
            part.unlink(missing_ok=True)
        _write_json(self.index_path, {"image_ids": list(image_ids)})

    def _check(self, image_id: int, raw: RawPrediction) -> None:
        heads = (set(raw.occlusions), set(raw.rankings))
        expected = (set(self.header.occlusion_heads), set(self.header.ranking_heads))
        if heads != expected:
            raise ValueError(f"image {image_id}: heads {heads}, the header names {expected}")
        num_categories = len(self.header.dataset.categories)
        if len(raw.semantic_logits) != num_categories:
            raise ValueError(f"image {image_id}: expected {num_categories} semantic categories")
        try:
            require_finite(raw)
        except RefineError as error:
            raise RefineError(f"image {image_id}: {error}") from None

    def _require_empty(self) -> None:
        folder = self.folder
        if folder.exists() and not folder.is_dir():
            raise RefineError(f"{folder}: a file, no folder; choose another save_predictions")
        strangers = [p.name for p in folder.glob("[!.]*")] if folder.is_dir() else []
        # another process may have come first: its header stands before any other of its files
        if strangers and not self.header_path.exists():
            raise RefineError(
                f"{folder}: holds {strangers[0]} and is no prediction cache; choose an empty "
                "folder as save_predictions"
            )


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one if there is no such file or something else in it."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _read_size(value: Any) -> tuple[int, int]:
    height, width = value
    if {type(height), type(width)} != {int} or min(value) < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"a size of {value}")
    return height, width


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with writing(path):
        write_text(path, json.dumps(content, indent=1) + "\n")
