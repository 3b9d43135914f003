"""LabelMe's JSON files: a list of drawn shapes for each photo."""

import base64
import binascii
import difflib
import posixpath
from collections import Counter
from collections.abc import Collection, Sequence
from math import cos, hypot, pi, sin
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from refine.categories import CategoryTable
from refine.coco_format.instances import Outline, plain_annotations
from refine.coco_format.json_entries import Entries, entries_of, parse_json_object
from refine.coco_format.png import check_size, decode_label_png
from refine.coco_format.storage import Storage
from refine.data.images import measure_photo
from refine.data.rows import original_mask
from refine.errors import RefineError
from refine.layouts.annotated_images import AnnotatedImage, Layout, Shape, find_photos
from refine.layouts.painting import paint_shapes
from refine.ops.outlines import encode_mask
from refine.types import IGNORE_INDEX, CodedMask, MaskCrop

_CIRCLE_CORNERS = 64
_WITHOUT_AREA = ("line", "linestrip", "point", "points")
_Size = tuple[int, int]


class LabelMe(Layout):
    """Shapes with labels: polygons, rectangles, circles and masks; lines and points are left out.

    Shapes with one label and one ``group_id`` are one instance, and so are those with one numbered
    label (``car-1``). Shapes of stuff may overlap.

    Args:
        annotations: The JSON files, one for each photo.
        images: The photos, by ``imagePath`` or called as the JSON is.
        categories: The categories; a label is the name of one, or that with ``-NUMBER``.
        overlaps: Which of two overlapping shapes lies on top.
        void: Labels whose shapes are void.

    Raises:
        RefineError: There are no JSON files or no photos.
    """

    has_outlines = True

    def __init__(
        self,
        annotations: Storage,
        images: Storage,
        *,
        categories: CategoryTable,
        overlaps: str,
        void: Collection[str],
    ) -> None:
        self.categories, self.images = categories, images
        self._annotations, self._overlaps, self._void = annotations, overlaps, void
        self._names = [name for name in annotations.names() if name.endswith(".json")]
        if not self._names:
            raise RefineError(f"{annotations.label}: no JSON files; check annotations=")
        self._photos = find_photos(images)
        self._labels = {c.name: k for k, c in enumerate(categories.categories)}

    def __len__(self) -> int:
        return len(self._names)

    def read(self, k: int) -> AnnotatedImage:
        """The image of JSON file ``k``."""
        name = self._names[k]
        source = f"{self._annotations.label}: {name}"
        document = parse_json_object(self._annotations.read(name), source=source)
        whole = Entries([document], "file", lambda _: source)
        photo = self._find_photo(name, whole.column("imagePath", str, default="")[0], source)
        size = self._find_size(whole, photo)
        check_size(size, None, source=source)
        shapes, notes = self._read_shapes(document, size, source)
        nothing = np.full(size, IGNORE_INDEX, np.uint8)
        segment_map, segments, painted = paint_shapes(
            shapes, nothing, overlaps=self._overlaps, categories=self.categories
        )
        return AnnotatedImage(
            image_id=k + 1,
            image_name=photo,
            segment_map=segment_map,
            segments=segments,
            outlines=tuple(s for s in shapes if s.category != IGNORE_INDEX),
            notes=painted + notes,
        )

    def _find_size(self, whole: Entries, photo: str) -> _Size:
        """What the file states; old ones do not."""
        keys = ("imageHeight", "imageWidth")
        if all(whole.items[0].get(key) is None for key in keys):
            return measure_photo(self.images.read(photo), source=f"{self.images.label}/{photo}")
        height, width = (int(whole.integers(key, low=1, high=2**20)[0]) for key in keys)
        return height, width

    def _find_photo(self, name: str, path: str, source: str) -> str:
        folder, path = posixpath.dirname(name), path.replace("\\", "/")
        stated = posixpath.normpath(posixpath.join(folder, path))
        for found in (stated, posixpath.join(folder, posixpath.basename(path))):
            if found in self.images:
                return found
        stem = str(PurePosixPath(name).with_suffix(""))
        if stem not in self._photos:
            raise RefineError(
                f"{source}: imagePath {path!r:.80} is not in {self.images.label}, and no photo is "
                "called as this file; set images= (imageData is not read)"
            )
        return self._photos[stem]

    def _read_shapes(
        self, document: dict[str, Any], size: _Size, source: str
    ) -> tuple[list[Shape], Counter[str]]:
        """The shapes in the order of the file (groups: of their last part); what was left out."""
        entries = entries_of(document, "shapes", source=source)
        kinds = entries.column("shape_type", str, default="polygon")
        entries = entries.pick([k for k, kind in enumerate(kinds) if kind not in _WITHOUT_AREA])
        labels = entries.column("label", str)
        found = [self._find_category(entries, k, label) for k, label in enumerate(labels)]
        outlines = _read_outlines(entries, size, source)
        grouped: dict[Any, tuple[int, list[Outline]]] = {}
        for k, ((category, instance), outline) in enumerate(zip(found, outlines, strict=True)):
            group = entries.items[k].get("group_id")
            group = instance if group is None else group
            key = (k,) if group is None else (category, str(group))
            _, parts = grouped.pop(key, (category, []))
            grouped[key] = (category, [*parts, outline])
        shapes = []
        for category, parts in grouped.values():
            outline = _unite(parts, size)
            crop = original_mask(outline, size)
            if crop is not None:
                shapes.append(Shape(category=category, outline=outline, crop=crop))
        notes = {"outlines without a pixel": len(grouped) - len(shapes)}
        notes["lines and points, which have no area"] = len(kinds) - len(entries)
        return shapes, Counter(notes)

    def _find_category(self, entries: Entries, k: int, label: str) -> tuple[int, str | None]:
        """The category of a label, 255 for void, and the instance that a numbered one names."""
        if label in self._void:
            return IGNORE_INDEX, None
        if label in self._labels:
            return self._labels[label], None
        name, _, number = label.rpartition("-")
        if number.isdecimal() and name in self._labels:
            return self._labels[name], label
        close = difflib.get_close_matches(label, self._labels, n=1)
        hint = f", correct it to {close[0]!r}" if close else ""
        entries.reject_value(k, "label", f"add it to the table{hint}, or make it void: void=[]")
        return IGNORE_INDEX, None


def _read_outlines(entries: Entries, size: _Size, source: str) -> list[Outline]:
    points = entries.column("points", list)
    kinds = entries.column("shape_type", str, default="polygon")
    items: list[dict[str, Any]] = []
    for k, (corners, kind) in enumerate(zip(points, kinds, strict=True)):
        if not all(type(p) is list and len(p) == 2 for p in corners):
            entries.reject_value(k, "points", "give it [[x, y], ...]")
        if not all(type(v) in (int, float) and abs(v) < 2**24 for p in corners for v in p):
            entries.reject_value(k, "points", "coordinates have to be numbers below 2^24")
        maker = _MAKERS.get(kind)
        if maker is None:
            fix = f"known are {', '.join([*_MAKERS, *_WITHOUT_AREA])}; remove the shape"
            entries.reject_value(k, "shape_type", fix)
        else:
            items.append({"points": maker(entries, k, corners, size)})
    shapes = Entries(items, "shapes[]", entries.describe)
    zeros = np.zeros(len(items), np.int64)
    sizes = np.tile(size, (len(items), 1))
    read = plain_annotations(
        shapes, source=source, image_ids=zeros, sizes=sizes, categories=zeros, key="points"
    )
    return [annotation.outline for annotation in read.of_image(0)]


def _make_polygon(
    _entries: Entries, _k: int, corners: list[list[float]], _size: _Size
) -> list[list[float]]:
    return [[v for corner in corners for v in corner]]


def _make_rectangle(
    entries: Entries, k: int, corners: list[list[float]], size: _Size
) -> list[list[float]]:
    if len(corners) != 2:  # a turned one has four
        return _make_polygon(entries, k, corners, size)
    (left, top), (right, bottom) = corners
    return [[left, top, right, top, right, bottom, left, bottom]]


def _make_circle(
    entries: Entries, k: int, corners: list[list[float]], _size: _Size
) -> list[list[float]]:
    if len(corners) != 2:
        entries.reject_value(k, "points", "a circle has its centre and a point on it")
    (x, y), (on_x, on_y) = corners
    radius = hypot(on_x - x, on_y - y)
    turns = [2 * pi * k / _CIRCLE_CORNERS for k in range(_CIRCLE_CORNERS)]
    return [[v for turn in turns for v in (x + radius * cos(turn), y + radius * sin(turn))]]


def _make_mask(entries: Entries, k: int, corners: list[list[float]], size: _Size) -> dict[str, Any]:
    """The run lengths of a PNG in base64, whose first pixel is at the first corner."""
    coded = entries.items[k].get("mask")
    if type(coded) is not str or not corners:
        entries.reject(k, "without a mask", ": no 'mask' or no points; draw the shape again")
    try:
        data = base64.b64decode(coded, validate=True)
    except (binascii.Error, ValueError):
        entries.reject(k, "with a bad mask", ": 'mask' is no base64; draw the shape again")
    mask = decode_label_png(data, source=entries.describe(k))
    left, top = (round(v) for v in corners[0])
    full = np.zeros(size, bool)
    view = full[max(top, 0) :, max(left, 0) :]
    inside = mask[max(-top, 0) :, max(-left, 0) :]
    if mask.ndim == 2 and inside.size:
        rows, columns = min(len(view), len(inside)), min(view.shape[1], inside.shape[1])
        view[:rows, :columns] = inside[:rows, :columns] > 0
    packed = encode_mask(MaskCrop(0, 0, full))
    return {"size": [*size], "counts": packed.counts.decode("ascii")}


_MAKERS = {
    "polygon": _make_polygon,
    "oriented_rectangle": _make_polygon,
    "rotation": _make_polygon,
    "rectangle": _make_rectangle,
    "circle": _make_circle,
    "mask": _make_mask,
}


def _unite(parts: Sequence[Outline], size: _Size) -> Outline:
    """One outline of several: their polygons, or the pixels of all."""
    if len(parts) == 1:
        return parts[0]
    polygons = [part for part in parts if not isinstance(part, CodedMask)]
    if len(polygons) == len(parts):
        return tuple(polygon for part in polygons for polygon in part)
    full = np.zeros(size, bool)
    for part in parts:
        crop = original_mask(part, size)
        if crop is not None:
            full[crop.slices] |= crop.mask
    return encode_mask(MaskCrop(0, 0, full))
