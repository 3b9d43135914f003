"""Label PNGs: categories and instances in two files (VOC, CVAT), or in two channels of one."""

from collections.abc import Collection

import numpy as np

from refine.categories import CategoryTable
from refine.coco_format.label_values import LabelValues, pack_colors
from refine.coco_format.png import decode_label_png
from refine.coco_format.storage import Storage
from refine.errors import RefineError
from refine.layouts.annotated_images import AnnotatedImage, Layout, pair_with_photos
from refine.layouts.painting import Key, number_segments
from refine.types import IGNORE_INDEX

_INSTANCES = 2**24  # that an image may have: the values of a colour


class LabelMaps(Layout):
    """Each pixel's category and instance; pixels of one pair of them are a segment.

    Pixels of a thing that have instance 0 are a crowd: nobody told them apart. Of stuff the
    instances do not matter.

    Args:
        semantic: PNGs called as the photos are: category ids, or RGB colours of the categories.
        instances: PNGs of the same names whose values, or colours, tell instances apart. None takes
            both from ``semantic``, whose first channel is then the category and whose other ones
            (alpha of grey; or green and blue) are the instance.
        images: The photos.
        categories: The categories.
        void: Values of ``semantic`` that are void where no category has them.

    Raises:
        RefineError: There are no PNGs, one has no photo, or there are too many categories.
    """

    def __init__(
        self,
        semantic: Storage,
        instances: Storage | None,
        images: Storage,
        *,
        categories: CategoryTable,
        void: Collection[int],
    ) -> None:
        self.categories, self.images = categories, images
        self._semantic, self._instances = semantic, instances
        self._values = LabelValues(categories, void=void)
        names = [name for name in semantic.names() if name.lower().endswith(".png")]
        self._pairs = pair_with_photos(names, images, label=semantic.label)

    def __len__(self) -> int:
        return len(self._pairs)

    def read(self, k: int) -> AnnotatedImage:
        """The image of PNG ``k``."""
        photo, name = self._pairs[k]
        categories, instances = self._read_maps(name)
        num_things = self.categories.num_things
        is_thing = categories < num_things
        keys = categories.astype(np.int64) * _INSTANCES + np.where(is_thing, instances, 0)

        def explain(key: int) -> Key | None:
            category, instance = divmod(key, _INSTANCES)
            if category == IGNORE_INDEX:
                return None
            return Key(category, is_crowd=category < num_things and instance == 0)

        segment_map, segments = number_segments(keys, explain, num_things=num_things)
        return AnnotatedImage(
            image_id=k + 1, image_name=photo, segment_map=segment_map, segments=segments
        )

    def _read_maps(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """``[H, W]`` uint8 contiguous categories, 255 for void, and integer instances."""
        source = f"{self._semantic.label}: {name}"
        values = decode_label_png(self._semantic.read(name), source=source)
        if self._instances is not None:
            label, size = f"{self._instances.label}: {name}", (values.shape[0], values.shape[1])
            instances = decode_label_png(self._instances.read(name), source=label, size=size)
            if instances.ndim == 3:
                has_colors = instances.shape[2] >= 3
                instances = pack_colors(instances) if has_colors else instances[..., 0]
        elif values.ndim == 2:
            raise RefineError(
                f"{source}: a PNG of one channel; expected the category in the first and the "
                "instance in the others"
            )
        else:
            others = values[..., 1:3].astype(np.int32)
            values, instances = values[..., 0], others[..., 0] + 256 * others[..., -1]
        return self._values.to_contiguous(values, source=source), instances
