"""COCO instances JSON files: full outlines, which overlap where the panoptic map cannot."""

import hashlib
import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from refine.coco_format import json_entries
from refine.coco_format.annotations import PanopticAnnotations, contiguous_categories
from refine.coco_format.category_choice import CategoryChoice
from refine.coco_format.json_entries import Entries, Ragged, entries_of
from refine.coco_format.outline_entries import are_coordinates, read_outlines, unpack_outlines
from refine.errors import Report, refuse
from refine.ops.outlines import find_mask_box
from refine.types import CodedMask

Outline = tuple[np.ndarray, ...] | CodedMask
"""Polygons, each ``[n, 2]`` float64 (x, y) original pixels, or run lengths of the whole image."""

_logger = logging.getLogger(__name__)


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
        strangers: ``[S]`` int64 image ids, in neither file's ``images``, of annotations left out.
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
    strangers: np.ndarray

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

    def outline_boxes(self) -> np.ndarray:
        """``[A, 4]`` float32 xyxy bounds of the outlines in original pixels; NaN without one."""
        bounds = np.full((len(self), 4), np.nan, dtype=np.float32)
        starts = self.polygons.offsets[self.polygon_offsets] // 2
        has_polygons = np.diff(starts) > 0
        if has_polygons.any():
            corners = self.polygons.values.reshape(-1, 2)
            firsts = starts[:-1][has_polygons]
            low, high = (f.reduceat(corners, firsts) for f in (np.minimum, np.maximum))
            bounds[has_polygons] = np.concatenate([low, high], axis=1)
        for a in np.flatnonzero(self.mask_rows >= 0).tolist():
            outline = self._outline(a)
            assert isinstance(outline, CodedMask)
            bounds[a] = find_mask_box(outline) or np.nan
        return bounds

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
    data: bytes,
    panoptic: PanopticAnnotations,
    *,
    source: str,
    report: Report = refuse,
    void: Collection[int] = (),
) -> InstanceAnnotations:
    """Check ``data``, a whole instances JSON; ``source`` is the file name shown in messages.

    Annotations of images that the panoptic JSON does not have are left out, those of the category
    ids ``void``, and malformed ones if ``report`` returns.

    Raises:
        RefineError: The content is malformed, names a category that is no thing, or numbers images
            or categories otherwise than the panoptic JSON.
    """
    document = json_entries.parse_json_object(data, source=source)
    listed = _compare_lists(document, panoptic, source=source, report=report)
    entries = entries_of(document, "annotations", source=source, report=report)
    if void:
        entries = entries.without("category_id", void)
    image_ids = entries.integers("image_id")
    used = np.array(entries.usable(), dtype=np.int64)
    is_known = np.isin(image_ids[used], panoptic.image_ids)
    strangers = image_ids[used[~is_known & ~np.isin(image_ids[used], listed)]]
    used = used[is_known]
    used = used[np.argsort(image_ids[used], kind="stable")]
    entries, image_ids = entries.pick(used.tolist()), image_ids[used]
    columns = _read_columns(entries, image_ids, panoptic)
    if entries.rejected:
        kept = entries.usable()
        entries, image_ids = entries.pick(kept), image_ids[kept]
        columns = _read_columns(entries, image_ids, panoptic)
    digest = hashlib.sha256(data).hexdigest()
    short = columns.pop("num_short")
    if short:
        _logger.warning("%s: left out %d polygons of fewer than 3 corners", source, short)
    return InstanceAnnotations(
        source=source, sha256=digest, image_ids=image_ids, strangers=strangers, **columns
    )


def _compare_lists(
    document: dict[str, Any], panoptic: PanopticAnnotations, *, source: str, report: Report
) -> np.ndarray:
    """Check that one id stands for one image or category in both files; ids of ``images``."""
    listed = np.zeros(0, dtype=np.int64)
    if document.get("images"):
        entries = entries_of(document, "images", source=source, report=report)
        listed, names = entries.integers("id"), entries.column("file_name", str, default="")
        image_ids, full = panoptic.image_ids.tolist(), panoptic.image_names.tolist()
        known = [PurePosixPath(name).stem for name in full]  # folders and endings may differ
        if len(set(known)) == len(known):
            names = [PurePosixPath(name).stem for name in names]
        else:
            known = full
        name_of = dict(zip(image_ids, known, strict=True))
        _compare_names(entries, listed.tolist(), names, name_of, panoptic.source, is_only=True)
        sizes = dict(zip(image_ids, panoptic.sizes.tolist(), strict=True))
        _compare_sizes(entries, listed.tolist(), sizes, panoptic.source)
    if document.get("categories"):
        entries = entries_of(document, "categories", source=source, report=report)
        ids, names = entries.integers("id").tolist(), entries.column("name", str, default="")
        name_of = {c.dataset_id: c.name for c in panoptic.categories.categories}
        _compare_names(entries, ids, names, name_of, panoptic.source, is_only=False)
    return listed


def _compare_names(
    entries: Entries,
    ids: list[int],
    names: list[str],
    known: dict[int, str],
    other: str,
    *,
    is_only: bool,
) -> None:
    """A name has one id in both files and, if it is the only one, an id has one name."""
    id_of = {name: i for i, name in known.items()}
    for k, (number, name) in enumerate(zip(ids, names, strict=True)):
        if k in entries.rejected or not name:
            continue
        there = id_of.get(name, number) if name in id_of or not is_only else None
        is_other = known.get(number, name) != name if there is None else there != number
        if is_other:
            found = f"id {number} is {known[number]!r}" if number in known else f"it has id {there}"
            fix = f": {name!r} has id {number}, but in {other} {found}; number both files alike"
            entries.reject(k, "has another id in the panoptic JSON", fix)


def _compare_sizes(
    entries: Entries, ids: list[int], sizes: dict[int, list[int]], other: str
) -> None:
    heights, widths = (entries.column(key, int, default=0) for key in ("height", "width"))
    for k, size in enumerate(zip(heights, widths, strict=True)):
        wanted = sizes.get(ids[k], [*size])
        if k not in entries.rejected and all(size) and [*size] != wanted:
            found = f"{size[1]} x {size[0]} pixels, {wanted[1]} x {wanted[0]} in {other}"
            entries.reject(k, "has another size in the panoptic JSON", f": {found}; fix one")


def _read_columns(
    entries: Entries, image_ids: np.ndarray, panoptic: PanopticAnnotations
) -> dict[str, Any]:
    contiguous = contiguous_categories(entries, panoptic.categories)
    for k in np.flatnonzero(contiguous >= panoptic.categories.num_things).tolist():
        if k not in entries.rejected:
            entries.reject_value(k, "category_id", "instances have to be of a thing category")
    order = np.argsort(panoptic.image_ids)
    places = order[np.searchsorted(panoptic.image_ids, image_ids, sorter=order)]
    return {
        "ids": entries.integers("id"),
        "categories": contiguous,
        "crowds": entries.integers("iscrowd", high=1, default=0).astype(bool),
        "boxes": _read_boxes(entries),
        **_outline_columns(entries, panoptic.sizes[places]),
    }


def _read_boxes(entries: Entries) -> np.ndarray:
    values = entries.column("bbox", list)
    for k, value in enumerate(values):
        if len(value) != 4 or not are_coordinates(value) or min(value[2:]) < 0:
            if k not in entries.rejected:
                entries.reject_value(k, "bbox", "give it [x, y, width, height]")
            values[k] = [0, 0, 0, 0]
    boxes = np.array(values, dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def plain_annotations(
    entries: Entries,
    *,
    source: str,
    image_ids: np.ndarray,
    sizes: np.ndarray,
    categories: np.ndarray,
    key: str = "segmentation",
) -> InstanceAnnotations:
    """Annotations that have an outline, under ``key``, and no box; their ids are their positions.

    ``image_ids``: ``[n]`` ascending; ``sizes``: ``[n, 2]`` (height, width) of the images;
    ``categories``: ``[n]`` int64 contiguous ids. A malformed outline is reported.
    """
    columns = _outline_columns(entries, sizes, key)
    del columns["num_short"]
    return InstanceAnnotations(
        source=source,
        sha256="",
        ids=np.arange(len(entries)),
        image_ids=image_ids,
        categories=categories,
        crowds=np.zeros(len(entries), bool),
        boxes=np.zeros((len(entries), 4), np.float32),
        strangers=np.zeros(0, np.int64),
        **columns,
    )


def _outline_columns(
    entries: Entries, sizes: np.ndarray, key: str = "segmentation"
) -> dict[str, Any]:
    """The columns of :class:`InstanceAnnotations` that hold outlines, and the number left out.

    ``sizes`` are the ``[n, 2]`` (height, width) of the entries' images.
    """
    outlines = read_outlines(entries, sizes, key)
    masks = outlines.masks
    unpack_outlines(entries, np.flatnonzero(outlines.mask_rows >= 0).tolist(), masks, key)
    return {
        "polygon_offsets": np.array(outlines.offsets, dtype=np.int64),
        "polygons": Ragged.pack(outlines.polygons, np.float32),
        "mask_rows": outlines.mask_rows,
        "masks": Ragged.join([m.counts for m in masks]),
        "mask_sizes": np.array([(m.height, m.width) for m in masks], np.int64).reshape(-1, 2),
        "num_short": outlines.num_short,
    }
