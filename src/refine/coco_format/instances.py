"""COCO instances JSON files: full outlines, which overlap where the panoptic map cannot."""

import hashlib
import logging
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np

from refine.categories import CategoryTable
from refine.coco_format import json_entries
from refine.coco_format.annotations import contiguous_categories
from refine.coco_format.category_choice import CategoryChoice
from refine.coco_format.json_entries import Entries, Ragged, entries_of
from refine.ops.outlines import compress_runs
from refine.types import CodedMask

Outline = tuple[np.ndarray, ...] | CodedMask
"""Polygons, each ``[n, 2]`` float64 (x, y) original pixels, or run lengths of the whole image."""

_logger = logging.getLogger(__name__)

_MIN_NUMBERS = 6  # in a polygon: three corners


@dataclass(frozen=True, slots=True, eq=False)
class InstanceAnnotation:
    """One instance with its full outline.

    It has the ``id`` and the ``box`` (xyxy in original pixels) that the file states.
    """

    id: int
    category: int
    is_crowd: bool
    box: tuple[float, float, float, float]
    outline: Outline


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InstanceAnnotations:
    """An instances file as columns, sorted by image.

    Attributes:
        source: File name shown in error messages.
        sha256: Hash of the file's content.
        ids: ``[A]`` int64 ids in the file.
        image_ids: ``[A]`` int64, ascending: the image of each annotation.
        categories: ``[A]`` int64 contiguous thing ids, -1 for annotations that are left out.
        crowds: ``[A]`` bool.
        boxes: ``[A, 4]`` float32 xyxy in original pixels.
        polygon_offsets: ``[A + 1]`` int64: annotation ``a`` owns polygons
            ``polygon_offsets[a] .. polygon_offsets[a + 1] - 1``.
        polygons: P rows float32: x, y, x, y, ... in original pixels.
        mask_rows: ``[A]`` int64 row in ``masks``, -1 for annotations with polygons.
        masks: R rows uint8, compressed run lengths.
        mask_sizes: ``[R, 2]`` int64 (height, width).
    """

    source: str
    sha256: str
    ids: np.ndarray
    image_ids: np.ndarray
    categories: np.ndarray
    crowds: np.ndarray
    boxes: np.ndarray
    polygon_offsets: np.ndarray
    polygons: Ragged
    mask_rows: np.ndarray
    masks: Ragged
    mask_sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    def of_image(self, image_id: int) -> tuple[InstanceAnnotation, ...]:
        """The annotations of one image in the file's order; empty for an unknown image."""
        first, last = np.searchsorted(self.image_ids, [image_id, image_id + 1])
        columns = (self.ids, self.categories, self.crowds, self.boxes)
        rows = zip(*(column[first:last].tolist() for column in columns), strict=True)
        return tuple(
            InstanceAnnotation(i, category, is_crowd, tuple(box), self._outline(a))
            for a, (i, category, is_crowd, box) in enumerate(rows, start=first)
            if category >= 0
        )

    def choose(self, choice: CategoryChoice) -> "InstanceAnnotations":
        """The annotations with a choice of the categories."""
        return replace(self, categories=choice.targets[self.categories])

    def _outline(self, a: int) -> Outline:
        row = self.mask_rows[a]
        if row >= 0:
            height, width = self.mask_sizes[row].tolist()
            return CodedMask(height, width, self.masks[row].tobytes())
        # the files have two decimals; rounding takes back what float32 did to them, so that masks
        # are equal to pycocotools' bit by bit
        return tuple(
            self.polygons[p].astype(np.float64).round(3).reshape(-1, 2)
            for p in range(self.polygon_offsets[a], self.polygon_offsets[a + 1])
        )


def parse_instances_json(
    data: bytes, categories: CategoryTable, *, source: str
) -> InstanceAnnotations:
    """Check ``data``, a whole instances JSON; ``source`` is the file name shown in messages.

    Raises:
        RefineError: The content is malformed, or names a category that is no thing.
    """
    document = json_entries.parse_json_object(data, source=source)
    entries = entries_of(document, "annotations", source=source)
    image_ids = entries.integers("image_id")
    order = np.argsort(image_ids, kind="stable")
    entries = entries.pick(order.tolist())
    contiguous = contiguous_categories(entries, categories)
    stuff = np.flatnonzero(contiguous >= categories.num_things)
    if len(stuff):
        fix = "instances have to be of a thing category"
        raise entries.error(int(stuff[0]), "category_id", fix)
    return InstanceAnnotations(
        source=source,
        sha256=hashlib.sha256(data).hexdigest(),
        ids=entries.integers("id"),
        image_ids=image_ids[order],
        categories=contiguous,
        crowds=entries.integers("iscrowd", high=1).astype(bool),
        boxes=_read_boxes(entries),
        **_outline_columns(entries, source=source),
    )


def _read_boxes(entries: Entries) -> np.ndarray:
    values = entries.column("bbox", list)
    for k, value in enumerate(values):
        if len(value) != 4 or not _are_finite(value) or min(value[2:]) < 0:
            raise entries.error(k, "bbox", "give it [x, y, width, height]")
    boxes = np.array(values, dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _are_finite(numbers: list[Any]) -> bool:
    return set(map(type, numbers)) <= {int, float} and all(map(isfinite, numbers))


def _outline_columns(entries: Entries, *, source: str) -> dict[str, Any]:
    """The columns of :class:`InstanceAnnotations` that hold outlines."""
    polygons: list[list[float]] = []
    offsets, dropped = [0], 0
    masks: list[CodedMask] = []
    mask_rows = np.full(len(entries), -1, dtype=np.int64)
    for k, outline in enumerate(entries.column("segmentation", list, dict)):
        if isinstance(outline, dict):
            mask_rows[k] = len(masks)
            try:
                height, width = outline["size"]
                masks.append(compress_runs(outline["counts"], height=height, width=width))
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                fix = f"expected COCO's {{size: [h, w], counts}} ({error})"
                raise entries.error(k, "segmentation", fix) from None
        else:
            usable = _usable_polygons(entries, k, outline)
            dropped += len(outline) - len(usable)
            polygons += usable
        offsets.append(len(polygons))
    if dropped:
        _logger.warning("%s: left out %d polygons of fewer than 3 corners", source, dropped)
    sizes = [(m.height, m.width) for m in masks]
    return {
        "polygon_offsets": np.array(offsets, dtype=np.int64),
        "polygons": Ragged.pack(polygons, np.float32),
        "mask_rows": mask_rows,
        "masks": Ragged.pack([m.counts for m in masks], np.uint8),
        "mask_sizes": np.array(sizes, dtype=np.int64).reshape(-1, 2),
    }


def _usable_polygons(entries: Entries, k: int, outline: list[Any]) -> list[list[float]]:
    for polygon in outline:
        if type(polygon) is not list or len(polygon) % 2:
            raise entries.error(k, "segmentation", "give polygons [x, y, x, y, ...]")
        if not _are_finite(polygon):
            raise entries.error(k, "segmentation", "coordinates have to be finite numbers")
    return [polygon for polygon in outline if len(polygon) >= _MIN_NUMBERS]
