"""What the pixels of a label map mean: values or colours to categories."""

from collections.abc import Collection

import numpy as np

from refine.categories import CategoryTable
from refine.errors import RefineError
from refine.types import IGNORE_INDEX

_LARGEST_ID = 2**16 - 1  # of a category in a label map


class LabelValues:
    """Turns label maps into contiguous categories.

    A map holds category ids of the dataset, or RGB colours of the categories. The values of
    ``void``, and black, are void where no category has them.

    Raises:
        RefineError: There are more categories than a byte can tell apart.
    """

    def __init__(
        self, categories: CategoryTable, *, void: Collection[int] = (0, IGNORE_INDEX)
    ) -> None:
        if len(categories) > IGNORE_INDEX:
            raise RefineError(f"{len(categories)} categories; at most {IGNORE_INDEX} can be used")
        self._categories = categories
        self._of_value = np.full(_LARGEST_ID + 1, -1, np.int16)
        self._void = " or ".join(map(str, void)) or "no value"
        self._of_value[[v for v in void if 0 <= v <= _LARGEST_ID]] = IGNORE_INDEX
        for k, category in enumerate(categories.categories):
            if category.dataset_id <= _LARGEST_ID:
                self._of_value[category.dataset_id] = k

    def to_contiguous(self, values: np.ndarray, *, source: str) -> np.ndarray:
        """``[H, W]`` uint8 contiguous categories, 255 for void, of a decoded map.

        The map has ``[H, W]`` integers, or ``[H, W, C]`` uint8 whose first three channels are RGB.
        A :class:`RefineError`, which begins with ``source``, names a value of no category.
        """
        if values.ndim == 3:
            return self._from_colors(values, source)
        categories = self._of_value[np.clip(values, 0, _LARGEST_ID)]
        is_strange = (categories < 0) | (values < 0) | (values > _LARGEST_ID)
        if is_strange.any():
            raise RefineError(
                f"{source}: category id {values[is_strange][0]} is not in the categories; pixels "
                f"hold category ids of the dataset, and {self._void} for void; add it to either"
            )
        known: np.ndarray = categories.astype(np.uint8)
        return known

    def _from_colors(self, values: np.ndarray, source: str) -> np.ndarray:
        if values.shape[2] < 3:
            raise RefineError(
                f"{source}: a PNG of two channels; a label map is grey, has a palette, or is RGB"
            )
        found, places = np.unique(pack_colors(values), return_inverse=True)
        table = {0: IGNORE_INDEX}
        packed = pack_colors(np.array([c.color for c in self._categories.categories], np.uint8))
        for k, color in enumerate(packed.tolist()):
            if table.get(color, IGNORE_INDEX) != IGNORE_INDEX:
                names = [self._categories[j].name for j in (table[color], k)]
                raise RefineError(f"{source}: {' and '.join(names)} have one colour; change one")
            table[color] = k
        strange = [color for color in found.tolist() if color not in table]
        if strange:
            rgb = [*strange[0].to_bytes(3, "little")]
            raise RefineError(
                f"{source}: RGB {rgb} is the colour of no category; a label map is grey, has a "
                "palette, or shows the colours of the categories"
            )
        categories = np.array([table[color] for color in found.tolist()], np.uint8)
        return categories[places].reshape(values.shape[:2])


def pack_colors(values: np.ndarray) -> np.ndarray:
    """``R + 256 G + 65536 B`` of ``[..., C >= 3]`` uint8, as ``[...]`` int32."""
    red, green, blue = np.moveaxis(values[..., :3].astype(np.int32), -1, 0)
    packed: np.ndarray = red | green << 8 | blue << 16
    return packed
