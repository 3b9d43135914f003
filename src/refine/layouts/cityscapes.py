"""Cityscapes' ``gtFine``: maps of instance ids, and the polygons that they were drawn from."""

from collections import Counter
from typing import Any

import numpy as np

from refine.categories import Category, CategoryTable
from refine.coco_format.instances import plain_annotations
from refine.coco_format.json_entries import Entries, entries_of, parse_json_object
from refine.coco_format.png import decode_label_png
from refine.coco_format.storage import Storage
from refine.data.rows import original_mask
from refine.errors import RefineError
from refine.layouts.annotated_images import AnnotatedImage, Layout, Shape
from refine.layouts.painting import Key, number_segments

_MAP, _PHOTO, _POLYGONS = "_gtFine_instanceIds.png", "_leftImg8bit", "_gtFine_polygons.json"
_INSTANCES = 1000  # that a category may have in an image
_LARGEST_LABEL = 33
_LABELS = (  # id, name, supercategory, colour; the others are not evaluated
    (7, "road", "flat", (128, 64, 128)),
    (8, "sidewalk", "flat", (244, 35, 232)),
    (11, "building", "construction", (70, 70, 70)),
    (12, "wall", "construction", (102, 102, 156)),
    (13, "fence", "construction", (190, 153, 153)),
    (17, "pole", "object", (153, 153, 153)),
    (19, "traffic light", "object", (250, 170, 30)),
    (20, "traffic sign", "object", (220, 220, 0)),
    (21, "vegetation", "nature", (107, 142, 35)),
    (22, "terrain", "nature", (152, 251, 152)),
    (23, "sky", "sky", (70, 130, 180)),
    (24, "person", "human", (220, 20, 60)),
    (25, "rider", "human", (255, 0, 0)),
    (26, "car", "vehicle", (0, 0, 142)),
    (27, "truck", "vehicle", (0, 0, 70)),
    (28, "bus", "vehicle", (0, 60, 100)),
    (31, "train", "vehicle", (0, 80, 100)),
    (32, "motorcycle", "vehicle", (0, 0, 230)),
    (33, "bicycle", "vehicle", (119, 11, 32)),
)

CATEGORIES = CategoryTable(
    [
        Category(
            dataset_id=number,
            name=name,
            is_thing=group in ("human", "vehicle"),
            color=color,
            supercategory=group,
        )
        for number, name, group, color in _LABELS
    ]
)
"""8 things and 11 stuff, by the ids of the labels."""


class Cityscapes(Layout):
    """One split: ``CITY/NAME_gtFine_instanceIds.png``, and the photos ``CITY/NAME_leftImg8bit.*``.

    By Cityscapes' own rules, a value from 1000 on is instance ``value % 1000`` of label
    ``value // 1000``, a smaller one a label: of things a crowd (``cargroup``), else stuff. Labels
    that are not evaluated are void. If every map has its polygons, they are the outlines of the
    things; parts below others are as the annotators drew them.

    Args:
        annotations: The split's folder of ``gtFine``.
        images: The split's folder of ``leftImg8bit``.

    Raises:
        RefineError: There are no maps.
    """

    def __init__(self, annotations: Storage, images: Storage) -> None:
        self.categories, self.images = CATEGORIES, images
        self._annotations = annotations
        self._stems = [n.removesuffix(_MAP) for n in annotations.names() if n.endswith(_MAP)]
        if not self._stems:
            raise RefineError(f"{annotations.label}: no *{_MAP}; check root= and split=")
        self.has_outlines = all(stem + _POLYGONS in annotations for stem in self._stems)
        self._labels = {c.name: k for k, c in enumerate(CATEGORIES.categories) if c.is_thing}

    def __len__(self) -> int:
        return len(self._stems)

    def read(self, k: int) -> AnnotatedImage:
        """The image of map ``k``."""
        stem = self._stems[k]
        source = f"{self._annotations.label}: {stem}{_MAP}"
        values = decode_label_png(self._annotations.read(stem + _MAP), source=source)
        if values.ndim != 2:
            raise RefineError(f"{source}: a colour PNG; instance ids are grey, of 16 bits")
        labels = np.unique(np.where(values < _INSTANCES, values, values // _INSTANCES))
        if labels.max() > _LARGEST_LABEL:
            raise RefineError(f"{source}: label {labels.max()}; Cityscapes' end at 33")
        segment_map, segments = number_segments(
            values.astype(np.int64), _explain, num_things=CATEGORIES.num_things
        )
        outlines, notes = None, Counter[str]()
        if self.has_outlines:
            size = (values.shape[0], values.shape[1])
            outlines, notes["outlines without a pixel"] = self._read_polygons(stem, size)
        return AnnotatedImage(
            image_id=k + 1,
            image_name=self._find_photo(stem),
            segment_map=segment_map,
            segments=segments,
            outlines=outlines,
            notes=notes,
        )

    def _find_photo(self, stem: str) -> str:
        names = [f"{stem}{_PHOTO}{suffix}" for suffix in (".png", ".jpg")]
        found = [name for name in names if name in self.images]
        if not found:
            raise RefineError(f"{self.images.label}: no photo {names[0]}; add it or check root=")
        return found[0]

    def _read_polygons(self, stem: str, size: tuple[int, int]) -> tuple[tuple[Shape, ...], int]:
        """The outlines of things in the order of the file, and how many have no pixel."""
        source = f"{self._annotations.label}: {stem}{_POLYGONS}"
        document = parse_json_object(self._annotations.read(stem + _POLYGONS), source=source)
        entries = entries_of(document, "objects", source=source)
        labels = entries.column("label", str)
        names = [label.removesuffix("group") for label in labels]
        deleted = [bool(item.get("deleted")) for item in entries.items]
        places = [k for k, n in enumerate(names) if n in self._labels and not deleted[k]]
        categories = np.array([self._labels[names[k]] for k in places], np.int64)
        items = [{"polygon": _flatten(entries, k)} for k in places]
        read = plain_annotations(
            Entries(items, "objects[]", lambda k: entries.describe(places[k])),
            source=source,
            image_ids=np.zeros(len(items), np.int64),
            sizes=np.tile(size, (len(items), 1)),
            categories=categories,
            key="polygon",
        )
        shapes = [
            Shape(
                category=a.category,
                outline=a.outline,
                crop=crop,
                is_crowd=names[places[a.id]] != labels[places[a.id]],
            )
            for a in read.of_image(0)
            if (crop := original_mask(a.outline, size)) is not None
        ]
        return tuple(shapes), len(items) - len(shapes)


def _explain(key: int) -> Key | None:
    label = key if key < _INSTANCES else key // _INSTANCES
    category = CATEGORIES.to_contiguous(label)
    if category is None:
        return None
    return Key(category, is_crowd=key < _INSTANCES and CATEGORIES.is_thing(category))


def _flatten(entries: Entries, k: int) -> list[list[Any]]:
    """One of COCO's lists of polygons."""
    corners = entries.items[k].get("polygon")
    if type(corners) is not list or not all(type(c) is list and len(c) == 2 for c in corners):
        entries.reject(k, "has no polygon", ": 'polygon' is missing or no list of [x, y]; fix it")
        return []
    return [[v for corner in corners for v in corner]]
