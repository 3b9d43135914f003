"""Full outlines as COCO's instances JSON."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from refine.atomic import write_text
from refine.categories import CategoryTable
from refine.coco_format.instances import Outline
from refine.layouts.annotated_images import Shape
from refine.types import CodedMask


class InstancesWriter:
    """Collects the outlines of a split, numbered from 1; :meth:`write` makes a file of them."""

    def __init__(self, categories: CategoryTable) -> None:
        self._categories = categories
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._annotations)

    def add(
        self, image_id: int, file_name: str, size: tuple[int, int], outlines: Iterable[Shape]
    ) -> None:
        """The outlines of things in one image of ``size`` (height, width); others are left out."""
        image = {"id": image_id, "file_name": file_name, "height": size[0], "width": size[1]}
        self._images.append(image)
        for shape in outlines:
            if self._categories.is_thing(shape.category):
                height, width = shape.crop.mask.shape
                entry = {
                    "id": len(self._annotations) + 1,
                    "image_id": image_id,
                    "category_id": self._categories[shape.category].dataset_id,
                    "iscrowd": int(shape.is_crowd),
                    "area": int(np.count_nonzero(shape.crop.mask)),
                    "bbox": [shape.crop.x, shape.crop.y, width, height],
                    "segmentation": _to_json(shape.outline),
                }
                self._annotations.append(entry)

    def write(self, path: Path) -> None:
        """Write the file whole; an ``OSError`` says that it cannot be written."""
        categories = self._categories.to_json(supercategories=True)
        document = {
            "images": self._images,
            "annotations": self._annotations,
            "categories": [entry for entry in categories if entry["isthing"]],
        }
        write_text(path, json.dumps(document))


def _to_json(outline: Outline) -> list[list[float]] | dict[str, Any]:
    if isinstance(outline, CodedMask):
        return {"size": [outline.height, outline.width], "counts": outline.counts.decode("ascii")}
    return [polygon.ravel().tolist() for polygon in outline]
