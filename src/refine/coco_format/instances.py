"""COCO instances JSON files: full outlines, which overlap where the panoptic map cannot."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from refine.categories import CategoryTable
from refine.coco_format.annotations import contiguous_categories
from refine.coco_format.json_entries import Entries, entries_of, parse_json_object, read_bytes
from refine.ops.outlines import compress_runs
from refine.types import CodedMask

_logger = logging.getLogger(__name__)

_MIN_NUMBERS = 6  # of a polygon: three corners


@dataclass(frozen=True, slots=True, eq=False)
class InstanceAnnotation:
    """One instance with its full outline.

    Attributes:
        id: As the file states it.
        category: Contiguous id of a thing.
        is_crowd: A crowd region.
        box: xyxy in original pixels, as the file states it.
        outline: Polygons, each ``[n, 2]`` float64 (x, y) in original pixels, or run lengths of the
            whole image.
    """

    id: int
    category: int
    is_crowd: bool
    box: tuple[float, float, float, float]
    outline: tuple[np.ndarray, ...] | CodedMask


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InstanceAnnotations:
    """An instances file as columns, sorted by image.

    Attributes:
        source: Name of the file, for messages.
        sha256: Of the file's content.
        ids: ``[A]`` int64, as the file states them.
        image_ids: ``[A]`` int64, ascending: the image of each annotation.
        categories: ``[A]`` int64 contiguous thing ids.
        crowds: ``[A]`` bool.
        boxes: ``[A, 4]`` float32 xyxy in original pixels.
        polygon_offsets: ``[A + 1]`` int64: annotation ``a`` owns polygons
            ``polygon_offsets[a] .. polygon_offsets[a + 1] - 1``.
        number_offsets: ``[P + 1]`` int64: where the numbers of each polygon start.
        numbers: ``[M]`` float32: x, y, x, y, ... in original pixels.
        runs: ``[A]`` int64 place in ``run_sizes``, -1 for annotations with polygons.
        run_sizes: ``[R, 2]`` int64 (height, width).
        run_offsets: ``[R + 1]`` int64.
        run_bytes: ``[K]`` uint8, the compressed run lengths one after another.
    """

    source: str
    sha256: str
    ids: np.ndarray
    image_ids: np.ndarray
    categories: np.ndarray
    crowds: np.ndarray
    boxes: np.ndarray
    polygon_offsets: np.ndarray
    number_offsets: np.ndarray
    numbers: np.ndarray
    runs: np.ndarray
    run_sizes: np.ndarray
    run_offsets: np.ndarray
    run_bytes: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    def of_image(self, image_id: int) -> tuple[InstanceAnnotation, ...]:
        """The annotations of one image in the file's order; none for an image it lacks."""
        first, last = np.searchsorted(self.image_ids, [image_id, image_id + 1])
        return tuple(self._annotation(a) for a in range(first, last))

    def _annotation(self, a: int) -> InstanceAnnotation:
        left, top, right, bottom = self.boxes[a].tolist()
        return InstanceAnnotation(
            id=int(self.ids[a]),
            category=int(self.categories[a]),
            is_crowd=bool(self.crowds[a]),
            box=(left, top, right, bottom),
            outline=self._outline(a),
        )

    def _outline(self, a: int) -> tuple[np.ndarray, ...] | CodedMask:
        r = self.runs[a]
        if r >= 0:
            counts = self.run_bytes[self.run_offsets[r] : self.run_offsets[r + 1]].tobytes()
            height, width = self.run_sizes[r].tolist()
            return CodedMask(height, width, counts)
        return tuple(
            self._polygon(p) for p in range(self.polygon_offsets[a], self.polygon_offsets[a + 1])
        )

    def _polygon(self, p: int) -> np.ndarray:
        numbers = self.numbers[self.number_offsets[p] : self.number_offsets[p + 1]]
        # the files have two decimals; rounding takes back what float32 did to them, so that masks
        # are equal to pycocotools' bit by bit
        exact: np.ndarray = numbers.astype(np.float64).round(3).reshape(-1, 2)
        return exact


def load_instances_json(path: Path, categories: CategoryTable) -> InstanceAnnotations:
    """Read and check ``instances_{split}.json``.

    Args:
        path: The file.
        categories: Of the panoptic annotations; their things have to include the instances'.

    Raises:
        RefineError: The file is missing or malformed, or names a category that is no thing.
    """
    return parse_instances_json(read_bytes(path), categories, source=str(path))


def parse_instances_json(
    data: bytes, categories: CategoryTable, *, source: str
) -> InstanceAnnotations:
    """Check the content of an instances file.

    Args:
        data: The JSON, whole.
        categories: Of the panoptic annotations; their things have to include the instances'.
        source: What messages call the file.

    Raises:
        RefineError: The content is malformed, or names a category that is no thing.
    """
    document = parse_json_object(data, source=source)
    entries = entries_of(document, "annotations", source=source)
    image_ids = entries.integers("image_id", low=0, high=2**62)
    order = np.argsort(image_ids, kind="stable")
    entries = Entries([entries.items[k] for k in order], _describe(entries, order))
    contiguous = contiguous_categories(entries, categories)
    stuff = np.flatnonzero(contiguous >= categories.num_things)
    if len(stuff):
        k = int(stuff[0])
        value = entries.items[k]["category_id"]
        raise entries.error(k, "category_id", value, "instances have to be of a thing category")
    outlines = entries.column("segmentation", list, dict)
    return InstanceAnnotations(
        source=source,
        sha256=hashlib.sha256(data).hexdigest(),
        ids=entries.integers("id", low=0, high=2**62),
        image_ids=image_ids[order],
        categories=contiguous,
        crowds=entries.integers("iscrowd", low=0, high=1).astype(bool),
        boxes=_read_boxes(entries),
        **_polygon_columns(entries, outlines, source=source),
        **_run_columns(entries, outlines),
    )


def _describe(entries: Entries, order: np.ndarray) -> Any:
    return lambda k: entries.describe(int(order[k]))


def _read_boxes(entries: Entries) -> np.ndarray:
    values = entries.column("bbox", list)
    for k, value in enumerate(values):
        if len(value) != 4 or not _are_finite(value) or min(value[2:]) < 0:
            raise entries.error(k, "bbox", value, "give it [x, y, width, height]")
    boxes = np.array(values, dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _are_finite(numbers: list[Any]) -> bool:
    return set(map(type, numbers)) <= {int, float} and all(map(isfinite, numbers))


def _polygon_columns(
    entries: Entries, outlines: Sequence[Any], *, source: str
) -> dict[str, np.ndarray]:
    polygons: list[list[float]] = []
    counts = []
    for k, outline in enumerate(outlines):
        usable = _usable_polygons(entries, k, outline) if isinstance(outline, list) else []
        counts.append(len(usable))
        polygons += usable
    dropped = sum(len(outline) for outline in outlines if isinstance(outline, list)) - len(polygons)
    if dropped:
        _logger.warning("%s: left out %d polygons of fewer than 3 corners", source, dropped)
    number_offsets = _offsets([len(polygon) for polygon in polygons])
    numbers = np.fromiter(chain.from_iterable(polygons), np.float32, count=int(number_offsets[-1]))
    return {
        "polygon_offsets": _offsets(counts),
        "number_offsets": number_offsets,
        "numbers": numbers,
    }


def _usable_polygons(entries: Entries, k: int, outline: list[Any]) -> list[list[float]]:
    for polygon in outline:
        if type(polygon) is not list or len(polygon) % 2:
            raise entries.error(k, "segmentation", outline, "give polygons [x, y, x, y, ...]")
        if not _are_finite(polygon):
            raise entries.error(k, "segmentation", outline, "coordinates have to be finite numbers")
    return [polygon for polygon in outline if len(polygon) >= _MIN_NUMBERS]


def _run_columns(entries: Entries, outlines: Sequence[Any]) -> dict[str, np.ndarray]:
    places = np.full(len(outlines), -1, dtype=np.int64)
    runs: list[CodedMask] = []
    for k, outline in enumerate(outlines):
        if isinstance(outline, dict):
            places[k] = len(runs)
            runs.append(_parse_runs(entries, k, outline))
    sizes = np.array([(r.height, r.width) for r in runs], dtype=np.int64).reshape(-1, 2)
    return {
        "runs": places,
        "run_sizes": sizes,
        "run_offsets": _offsets([len(r.counts) for r in runs]),
        "run_bytes": np.frombuffer(b"".join(r.counts for r in runs), dtype=np.uint8),
    }


def _parse_runs(entries: Entries, k: int, outline: dict[str, Any]) -> CodedMask:
    try:
        height, width = outline["size"]
        return compress_runs(outline["counts"], height=height, width=width)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        mend = f"expected COCO's {{size: [h, w], counts}} ({error})"
        raise entries.error(k, "segmentation", outline, mend) from None


def _offsets(counts: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
