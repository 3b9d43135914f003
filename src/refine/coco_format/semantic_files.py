"""Semantic predictions in files: a label map or probabilities for each image."""

import io
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from refine.categories import CategoryTable
from refine.coco_format.label_values import LabelValues
from refine.coco_format.png import check_size, decode_label_png
from refine.coco_format.storage import open_storage
from refine.errors import RefineError, first_line
from refine.types import IGNORE_INDEX

_SUFFIXES = (".png", ".npz", ".npy", ".safetensors")


class SemanticFiles:
    """A folder or zip that has a file for each image, called as the image is.

    ``.png`` (16 bits at most, grey or palette) and integer arrays ``[H, W]`` hold category ids of
    the dataset, with the values of ``void`` as void where no category has that id; RGB ``.png``
    hold the colours of the categories. Floating ``[C, h, w]`` are
    probabilities or logits whose channels come as ``dataset_ids`` do. ``.npz`` and ``.safetensors``
    hold one array; a whole ``.npz`` with an array for each image is such a zip.
    """

    def __init__(
        self,
        path: Path,
        categories: CategoryTable,
        dataset_ids: Sequence[int],
        *,
        void: Collection[int] = (0, IGNORE_INDEX),
    ) -> None:
        self._files = open_storage(path)
        contiguous = {c.dataset_id: k for k, c in enumerate(categories.categories)}
        self._channels = np.argsort([contiguous[i] for i in dataset_ids])
        self._values = LabelValues(categories, void=void)

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
            values = decode_label_png(data, source=source, size=size)
            return self._values.to_contiguous(values, source=source)
        values = _decode_array(data, PurePosixPath(name).suffix, source)
        if values.ndim == 2 and values.dtype.kind in "iu":
            check_size((values.shape[0], values.shape[1]), size, source=source)
            return self._values.to_contiguous(values, source=source)
        self._check_channels(values, size, source)
        return values[self._channels].astype(np.float32)

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
