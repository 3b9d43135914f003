"""Panoptic JSON files with PNGs that others prepared: ADE20K's, Cityscapes', Mapillary's.

They have COCO's form, but number images by text, and name photos by habits of their own.
"""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from refine.categories import CategoryTable
from refine.coco_format.annotations import parse_panoptic_json
from refine.coco_format.json_entries import Entries, entries_of, parse_json_object, read_bytes
from refine.coco_format.png import decode_segment_png
from refine.coco_format.segment_runs import find_runs
from refine.coco_format.storage import Storage
from refine.errors import RefineError
from refine.layouts.annotated_images import AnnotatedImage, Layout, find_photos

_MARK = "_gtFine"  # in names that Cityscapes' scripts give photos


class PanopticForm(Layout):
    """A panoptic JSON and its PNGs, whose segments stay as they are.

    Args:
        annotations: The JSON. Ids of images may be text; then images are numbered from 1.
        pngs: The PNGs.
        images: The photos: by their names in the JSON, or by the last part of these, in any
            folder, with any ending and without Cityscapes' ``_gtFine``.
        categories: The categories; None takes the JSON's.

    Raises:
        RefineError: The JSON is missing or malformed, or two photos could be meant.
    """

    def __init__(
        self, annotations: Path, pngs: Storage, images: Storage, *, categories: CategoryTable | None
    ) -> None:
        self.images, self._pngs, source = images, pngs, str(annotations)
        document = parse_json_object(read_bytes(annotations), source=source)
        _number_images(document, source)
        if categories is not None:
            document["categories"] = categories.to_json(supercategories=True)
        self._annotations = parse_panoptic_json(json.dumps(document).encode(), source=source)
        self.categories = self._annotations.categories
        self._photos: dict[str, list[str]] = {}
        for stem, name in find_photos(images).items():
            self._photos.setdefault(PurePosixPath(stem).name, []).append(name)

    def __len__(self) -> int:
        return len(self._annotations)

    def read(self, k: int) -> AnnotatedImage:
        """Image ``k`` of the JSON."""
        table = self._annotations
        png, (height, width) = str(table.file_names[k]), table.sizes[k].tolist()
        label, segments = f"{self._pngs.label}/{png}", table.segments(k)
        ids = decode_segment_png(self._pngs.read(png), source=label, size=(height, width))
        find_runs(ids, segments, source=label)
        return AnnotatedImage(
            image_id=int(table.image_ids[k]),
            image_name=self._find_photo(str(table.image_names[k])),
            segment_map=ids,
            segments=segments,
        )

    def _find_photo(self, name: str) -> str:
        if name in self.images:
            return name
        stem = PurePosixPath(name).stem
        for wanted in (stem, stem.replace(_MARK, "")):
            found = self._photos.get(wanted, [])
            if len(found) == 1:
                return found[0]
            if found:
                both = " and ".join(found[:2])
                raise RefineError(f"{self.images.label}: {both} may both be {name}; remove one")
        raise RefineError(f"{self.images.label}: no photo {name}; add it or check images=")


def _number_images(document: dict[str, Any], source: str) -> None:
    """Numbers in place of ids of text, in the order of ``images``."""
    images = entries_of(document, "images", source=source)
    ids = images.column("id", int, str)
    if not any(isinstance(i, str) for i in ids):
        return
    if len(set(ids)) < len(ids):
        raise RefineError(f"{source}: an 'id' stands twice in 'images'; keep one")
    numbers = {i: k for k, i in enumerate(ids, start=1)}
    annotations = entries_of(document, "annotations", source=source)
    owners = annotations.column("image_id", int, str)
    for entries, key, values in ((images, "id", ids), (annotations, "image_id", owners)):
        for k, value in enumerate(values):
            _require(value in numbers, entries, k, key)
            entries.items[k][key] = numbers[value]


def _require(condition: bool, entries: Entries, k: int, key: str) -> None:
    if not condition:
        entries.reject_value(k, key, "it has no entry in 'images', add it or remove this")
