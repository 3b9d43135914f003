"""Semantic predictions in files: a label map or probabilities for each image."""

import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import safetensors.numpy
from PIL import Image
from safetensors import SafetensorError

from refine.categories import CategoryTable
from refine.coco_format.png import PILLOW_ERRORS, check_size, explain_pillow
from refine.coco_format.storage import open_storage
from refine.errors import RefineError, first_line
from refine.types import IGNORE_INDEX

_SUFFIXES = (".png", ".npz", ".npy", ".safetensors")
_LARGEST_ID = 2**16 - 1  # of a category in a label map


class SemanticFiles:
    """A folder or zip that has a file for each image, called as the image is.

    ``.png`` (8 or 16 bits, grey or palette) and integer arrays ``[H, W]`` hold category ids of the
    dataset, with 0 and 255 as void where no category has that id. Floating ``[C, h, w]`` are
    probabilities or logits whose channels come as ``dataset_ids`` do. ``.npz`` and ``.safetensors``
    hold one array; a whole ``.npz`` with an array for each image is such a zip.
    """

    def __init__(self, path: Path, categories: CategoryTable, dataset_ids: Sequence[int]) -> None:
        self._files = open_storage(path)
        contiguous = {c.dataset_id: k for k, c in enumerate(categories.categories)}
        self._channels = np.argsort([contiguous[i] for i in dataset_ids])
        self._table = np.full(_LARGEST_ID + 1, -1, np.int16)
        self._table[[0, IGNORE_INDEX]] = IGNORE_INDEX
        for dataset_id, category in contiguous.items():
            if dataset_id <= _LARGEST_ID:
                self._table[dataset_id] = category

    def read(self, image_name: str, size: tuple[int, int]) -> np.ndarray:
        """``[H, W]`` uint8 contiguous categories (255: void), or ``[C, h, w]`` float32 so ordered.

        Raises:
            RefineError: No file, a damaged one, one of another size or with unknown categories.
        """
        stem = str(PurePosixPath(image_name).with_suffix(""))
        names = [stem + suffix for suffix in _SUFFIXES]
        name = next((n for n in names if n in self._files), names[0])
        source = f"{self._files.label}: {name}"
        data = self._files.read(name)
        if name.endswith(".png"):
            values = _decode_png(data, source, size)
        else:
            values = _decode_array(data, PurePosixPath(name).suffix, source)
        if values.ndim == 2 and values.dtype.kind in "iu":
            check_size((values.shape[0], values.shape[1]), size, source=source)
            return self._to_contiguous(values, source)
        self._check_channels(values, size, source)
        return values[self._channels].astype(np.float32)

    def _to_contiguous(self, values: np.ndarray, source: str) -> np.ndarray:
        categories = self._table[np.clip(values, 0, _LARGEST_ID)]
        is_strange = (categories < 0) | (values < 0) | (values > _LARGEST_ID)
        if is_strange.any():
            raise RefineError(
                f"{source}: category id {values[is_strange][0]} is not in the categories; pixels "
                "hold category ids of the dataset, 0 or 255 is void"
            )
        known: np.ndarray = categories.astype(np.uint8)
        return known

    def _check_channels(self, values: np.ndarray, size: tuple[int, int], source: str) -> None:
        found = f"{source}: {values.dtype} of shape {values.shape}"
        if values.ndim != 3 or values.dtype.kind != "f" or len(values) != len(self._channels):
            raise RefineError(
                f"{found}; expected [{len(self._channels)}, h, w] floating numbers, a channel for "
                "each category, or [H, W] integers"
            )
        (height, width), (rows, columns) = size, values.shape[1:]
        # at any stride: rows and columns shrink alike, up to rounding of either
        if abs(rows * width - columns * height) > max(height, width):
            raise RefineError(
                f"{found} has other proportions than the image, {height} x {width} (height x "
                "width); remove the padding"
            )


def _decode_png(data: bytes, source: str, size: tuple[int, int]) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            check_size((image.height, image.width), size, source=source)
            if image.mode not in ("L", "P", "I", "I;16"):
                raise RefineError(
                    f"{source}: a PNG of mode {image.mode}; a label map is grey or has a palette"
                )
            return np.asarray(image)
    except PILLOW_ERRORS as error:
        raise RefineError(f"{source}: damaged ({explain_pillow(error)}); write it again") from None


def _decode_array(data: bytes, suffix: str, source: str) -> np.ndarray:
    """The only array of a file."""
    try:
        if suffix == ".safetensors":
            arrays = list(safetensors.numpy.load(data).values())
        else:
            loaded = np.load(io.BytesIO(data), allow_pickle=False)
            arrays = [loaded] if suffix == ".npy" else [loaded[key] for key in loaded.files]
    except (OSError, ValueError, KeyError, TypeError, EOFError, SafetensorError) as error:
        reason = first_line(error)
        raise RefineError(f"{source}: cannot be read ({reason}); write it again") from None
    if len(arrays) != 1:
        raise RefineError(f"{source}: {len(arrays)} arrays; expected one")
    array: np.ndarray = arrays[0]
    return array
