"""Panoptic JSON files: ground truth as columns, and results of anybody's making."""

import hashlib
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from refine.categories import CategoryTable
from refine.coco_format import json_entries
from refine.coco_format.category_choice import CategoryChoice, unite_segments
from refine.coco_format.json_entries import Entries, entries_of
from refine.coco_format.png import MAX_PIXELS
from refine.errors import RefineError, Report, refuse
from refine.types import Segment


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PanopticAnnotations:
    """A panoptic annotation file, in the order of its ``images``.

    Attributes:
        source: File name shown in error messages.
        sha256: Hash of the file's content.
        categories: Categories of the dataset.
        image_ids: ``[N]`` int64.
        image_names: ``[N]`` str, the image files.
        file_names: ``[N]`` str, the panoptic PNGs.
        sizes: ``[N, 2]`` int64 (height, width) of the image files.
        offsets: ``[N + 1]`` int64; image ``k`` owns segments ``offsets[k] .. offsets[k + 1] - 1``.
        segment_ids: ``[S]`` int64 in ``1 .. 2**24 - 1``, the values of the PNG's pixels.
        segment_categories: ``[S]`` int64 contiguous ids.
        segment_areas: ``[S]`` int64 pixels, as the file states them.
        segment_crowds: ``[S]`` bool.
        is_chosen: Whether :meth:`choose` has made this of a file: ``segment_categories`` may be -1
            (void), and stuff of one category may have several segments.
    """

    source: str
    sha256: str
    categories: CategoryTable
    image_ids: np.ndarray
    image_names: np.ndarray
    file_names: np.ndarray
    sizes: np.ndarray
    offsets: np.ndarray
    segment_ids: np.ndarray
    segment_categories: np.ndarray
    segment_areas: np.ndarray
    segment_crowds: np.ndarray
    is_chosen: bool = False

    def __len__(self) -> int:
        return len(self.image_ids)

    def choose(self, choice: CategoryChoice) -> "PanopticAnnotations":
        """The same images with a choice of the categories that the file has."""
        return replace(
            self,
            categories=choice.table,
            segment_categories=choice.targets[self.segment_categories],
            is_chosen=True,
        )

    def segments(self, k: int) -> tuple[Segment, ...]:
        """The segments of image ``k`` (its position in this table) in the file's order."""
        listed = self._listed(k)
        return unite_segments(listed)[0] if self.is_chosen else listed

    def renamed(self, k: int) -> dict[int, int]:
        """New ids for pixels of image ``k``'s PNG: 0 where the segment is void by choice."""
        return unite_segments(self._listed(k))[1] if self.is_chosen else {}

    def _listed(self, k: int) -> tuple[Segment, ...]:
        rows = slice(self.offsets[k], self.offsets[k + 1])
        numbers = (self.segment_ids, self.segment_categories, self.segment_areas)
        columns = [column[rows].tolist() for column in (*numbers, self.segment_crowds)]
        return tuple(
            Segment(id=i, category=c, is_thing=self.categories.is_thing(c), area=a, is_crowd=crowd)
            for i, c, a, crowd in zip(*columns, strict=True)
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PanopticResults:
    """A panoptic result file; ``source`` is its name in error messages.

    By image id it has the name of the PNG and the segments in the file's order. A segment's ``id``
    is the 24-bit value of the PNG's pixels; areas, which are counted there, are 0. ``image_names``
    are those of the file's ``images``, if it has any.
    """

    source: str
    file_names: dict[int, str]
    segments: dict[int, tuple[Segment, ...]]
    image_names: dict[int, str]
    renamed: dict[int, dict[int, int]] = field(default_factory=dict)

    def choose(self, choice: CategoryChoice) -> "PanopticResults":
        """The results with a choice of the categories; new ids of pixels are in ``renamed``."""
        united = {i: unite_segments(choice.map(s)) for i, s in self.segments.items()}
        return replace(
            self,
            segments={i: segments for i, (segments, _) in united.items()},
            renamed={i: renamed for i, (_, renamed) in united.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageTable:
    """The images that a JSON lists, in its order; ``source`` is its name in error messages.

    ``ids`` are ``[N]`` int64, ``names`` ``[N]`` str and ``sizes`` ``[N, 2]`` int64 (height, width).
    """

    source: str
    ids: np.ndarray
    names: np.ndarray
    sizes: np.ndarray

    def part(self, first: int, last: int) -> "ImageTable":
        """The images ``first .. last - 1``."""
        chosen = slice(first, last)
        return replace(
            self, ids=self.ids[chosen], names=self.names[chosen], sizes=self.sizes[chosen]
        )


def load_panoptic_json(path: Path) -> PanopticAnnotations:
    """Read and check ``panoptic_{split}.json``; see :func:`parse_panoptic_json`."""
    return parse_panoptic_json(json_entries.read_bytes(path), source=str(path))


def parse_panoptic_json(
    data: bytes, *, source: str, report: Report = refuse
) -> PanopticAnnotations:
    """Check ``data``, a whole panoptic JSON; ``source`` is the file name shown in error messages.

    If ``report`` returns, what is malformed is left out.

    Raises:
        RefineError: The content is malformed or contradicts itself; with another ``report`` than
            :func:`~refine.errors.refuse`: too much to find anything in it.
    """
    document = json_entries.parse_json_object(data, source=source)
    raw_categories = entries_of(document, "categories", source=source).items
    categories = CategoryTable.of(raw_categories, source=source, report=report)
    images, image_ids, image_names, sizes = _read_images(document, source=source, report=report)
    rows, annotations = _in_image_order(document, images, image_ids, source=source)
    file_names = annotations.file_names("file_name")
    segments, offsets = _segment_entries(annotations, image_ids[rows], source=source)
    columns: dict[str, Any] = {
        "segment_ids": _segment_ids(segments, offsets),
        "segment_categories": contiguous_categories(segments, categories),
        "segment_areas": segments.integers("area", low=1),
        "segment_crowds": segments.integers("iscrowd", high=1).astype(bool),
    }
    used = segments.usable()
    return PanopticAnnotations(
        source=source,
        sha256=hashlib.sha256(data).hexdigest(),
        categories=categories,
        image_ids=image_ids[rows],
        image_names=image_names[rows],
        file_names=file_names,
        sizes=sizes[rows],
        offsets=np.searchsorted(used, offsets),
        **{name: column[used] for name, column in columns.items()},
    )


def load_panoptic_results(path: Path, categories: CategoryTable) -> PanopticResults:
    """Read and check a result file; the categories are those of the ground truth.

    It needs what the official format promises: ``annotations`` with ``image_id``, ``file_name``
    and, for each of ``segments_info`` (if any), ``id`` and ``category_id``. ``images`` may be
    there.

    Raises:
        RefineError: The file is missing, malformed, empty, or names an unknown category.
    """
    source = str(path)
    document = json_entries.parse_json_object(json_entries.read_bytes(path), source=source)
    entries = entries_of(document, "annotations", source=source)
    if not entries:
        raise RefineError(f"{source}: 'annotations' is empty; there is nothing to score")
    image_ids = entries.integers("image_id")
    entries.reject_repeats(image_ids, "image_id", "the list")
    raw, offsets = _segment_entries(entries, image_ids, source=source)
    columns = _segment_ids(raw, offsets), contiguous_categories(raw, categories)
    segments = [
        Segment(id=i, category=c, is_thing=categories.is_thing(c), area=0)
        for i, c in np.stack(columns, axis=1).tolist()
    ]
    known: list[int] = image_ids.tolist()
    names = entries.file_names("file_name").tolist()
    image_names: dict[int, str] = {}
    if document.get("images"):
        image_names = dict(zip(*_image_names(document, source=source), strict=True))
    return PanopticResults(
        source=source,
        file_names=dict(zip(known, names, strict=True)),
        segments={i: tuple(segments[offsets[k] : offsets[k + 1]]) for k, i in enumerate(known)},
        image_names=image_names,
    )


def load_image_table(path: Path) -> ImageTable:
    """The images of any of COCO's JSON files, ``image_info_test-dev2017.json`` for one.

    Raises:
        RefineError: The file is missing or malformed, or an id stands twice.
    """
    document = json_entries.parse_json_object(json_entries.read_bytes(path), source=str(path))
    _, ids, names, sizes = _read_images(document, source=str(path), report=refuse)
    return ImageTable(source=str(path), ids=ids, names=names, sizes=sizes)


def _read_images(
    document: dict[str, Any], *, source: str, report: Report
) -> tuple[Entries, np.ndarray, np.ndarray, np.ndarray]:
    """The entries of ``images``, their ids, file names and (height, width)."""
    images = entries_of(document, "images", source=source, report=report)
    if not images:
        raise RefineError(f"{source}: 'images' is empty; a dataset needs at least one image")
    image_ids = images.integers("id")
    images.reject_repeats(image_ids, "id", "the list")
    sizes = np.stack([images.integers(k, low=1, high=2**20) for k in ("height", "width")], axis=1)
    for k in np.flatnonzero(sizes.prod(axis=1) > MAX_PIXELS).tolist():
        images.reject(k, "is too large", f" has more than {MAX_PIXELS} pixels; use smaller images")
    return images, image_ids, images.file_names("file_name"), sizes


def load_image_ids(path: Path) -> dict[str, int]:
    """Id of each image, by file name, in any of COCO's JSON files with ``images``.

    Raises:
        RefineError: The file is missing or malformed, or a name stands twice.
    """
    document = json_entries.parse_json_object(json_entries.read_bytes(path), source=str(path))
    ids, names = _image_names(document, source=str(path))
    return dict(zip(names, ids, strict=True))


def _image_names(document: dict[str, Any], *, source: str) -> tuple[list[int], list[str]]:
    images = entries_of(document, "images", source=source)
    ids, names = images.integers("id"), images.file_names("file_name")
    images.reject_repeats(ids, "id", "the list")
    images.reject_repeats(names, "file_name", "the list")
    return ids.tolist(), names.tolist()


def _in_image_order(
    document: dict[str, Any], images: Entries, image_ids: np.ndarray, *, source: str
) -> tuple[np.ndarray, Entries]:
    """Positions of the images that can be used, and one annotation for each of them."""
    entries = entries_of(document, "annotations", source=source, report=images.report)
    owners = entries.integers("image_id")
    entries.reject_repeats(owners, "image_id", "the list")
    for k in np.flatnonzero(~np.isin(owners, image_ids)).tolist():
        if k not in entries.rejected:
            fix = f": image id {owners[k]} has no entry in 'images'; add it or remove this"
            entries.reject(k, "is of an unknown image", fix)
    for k in np.flatnonzero(~np.isin(image_ids, owners)).tolist():
        if k not in images.rejected:
            fix = f": image id {image_ids[k]} has no entry in 'annotations'; add it or remove this"
            images.reject(k, "has no annotation", fix)
    of_image = {owners[k]: entries.items[k] for k in entries.usable()}
    rows = [k for k in images.usable() if image_ids[k] in of_image]
    if not rows:
        raise RefineError(f"{source}: no image can be used; correct the images first")
    ordered = [of_image[image_ids[k]] for k in rows]
    kept = np.array(rows)
    describe = lambda k: f"{source}: annotation of image {image_ids[kept[k]]}"  # noqa: E731
    return kept, Entries(ordered, "annotations[]", describe, images.report)


def _segment_entries(
    annotations: Entries, image_ids: np.ndarray, *, source: str
) -> tuple[Entries, np.ndarray]:
    """The segments of all images one after another, and where those of each image start."""
    lists: list[list[Any]] = annotations.column("segments_info", list)
    offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)

    def describe(k: int) -> str:
        image = int(np.searchsorted(offsets, k, side="right")) - 1
        return f"{source}: image {image_ids[image]}: segments_info[{k - offsets[image]}]"

    items = list(chain.from_iterable(lists))
    return Entries(items, "segments_info[]", describe, annotations.report), offsets


def _segment_ids(segments: Entries, offsets: np.ndarray) -> np.ndarray:
    """Ids, which have to differ within an image (not between images)."""
    ids = segments.integers("id", low=1, high=2**24 - 1)  # the three bytes of an RGB pixel
    owners = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    segments.reject_repeats(owners * 2**24 + ids, "id", "the image")
    return ids


def contiguous_categories(entries: Entries, categories: CategoryTable) -> np.ndarray:
    """The entries' ``category_id`` as ``[n]`` int64 contiguous ids; a problem if unknown."""
    dataset_ids = entries.integers("category_id").tolist()
    contiguous = [categories.to_contiguous(i) for i in dataset_ids]
    if None in contiguous:
        for k, category in enumerate(contiguous):
            if category is None:
                if k not in entries.rejected:
                    entries.reject_value(k, "category_id", "add it to 'categories'")
                contiguous[k] = 0
    return np.array(contiguous, dtype=np.int64)
