"""COCO-panoptic JSON files in, columns out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from refine.categories import CategoryTable
from refine.coco_format.json_entries import Entries, entries_of, parse_json_object, read_bytes
from refine.errors import RefineError
from refine.types import Segment

MAX_SEGMENT_ID = 2**24 - 1
"""Largest segment id that the three bytes of an RGB pixel hold."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PanopticAnnotations:
    """A panoptic annotation file, in the order of its ``images``.

    Attributes:
        source: Name of the file, for messages.
        sha256: Of the file's content.
        categories: Its categories.
        image_ids: ``[N]`` int64.
        image_names: ``[N]`` str, the image files.
        file_names: ``[N]`` str, the panoptic PNGs.
        sizes: ``[N, 2]`` int64 (height, width) of the image files.
        offsets: ``[N + 1]`` int64; image ``k`` owns segments ``offsets[k] .. offsets[k + 1] - 1``.
        segment_ids: ``[S]`` int64 in ``1 .. 2**24 - 1``, as the PNG's pixels code them.
        segment_categories: ``[S]`` int64 contiguous ids.
        segment_areas: ``[S]`` int64 pixels, as the file states them.
        segment_crowds: ``[S]`` bool.
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

    def __len__(self) -> int:
        return len(self.image_ids)

    def segments(self, k: int) -> tuple[Segment, ...]:
        """The segments of image ``k`` (its place in this table) in the file's order."""
        return tuple(
            Segment(
                id=int(self.segment_ids[s]),
                category=int(self.segment_categories[s]),
                is_thing=self.categories.is_thing(int(self.segment_categories[s])),
                area=int(self.segment_areas[s]),
                is_crowd=bool(self.segment_crowds[s]),
            )
            for s in range(self.offsets[k], self.offsets[k + 1])
        )


def load_panoptic_json(path: Path) -> PanopticAnnotations:
    """Read and check ``panoptic_{split}.json``.

    Raises:
        RefineError: The file is missing, malformed or contradicts itself.
    """
    return parse_panoptic_json(read_bytes(path), source=str(path))


def parse_panoptic_json(data: bytes, *, source: str) -> PanopticAnnotations:
    """Check the content of a panoptic annotation file.

    Args:
        data: The JSON, whole.
        source: What messages call the file.

    Raises:
        RefineError: The content is malformed or contradicts itself.
    """
    document = parse_json_object(data, source=source)
    raw_categories = entries_of(document, "categories", source=source).items
    categories = CategoryTable.from_json(raw_categories, source=source)
    images = entries_of(document, "images", source=source)
    if not images:
        raise RefineError(f"{source}: 'images' is empty; a dataset needs at least one image")
    image_ids = images.integers("id", low=0, high=2**62)
    _refuse_repeats(image_ids, f"{source}: 'images'")
    annotations = entries_of(document, "annotations", source=source)
    annotations = _in_image_order(annotations, image_ids, source=source)
    sizes = [images.integers(key, low=1, high=2**20) for key in ("height", "width")]
    return PanopticAnnotations(
        source=source,
        sha256=hashlib.sha256(data).hexdigest(),
        categories=categories,
        image_ids=image_ids,
        image_names=images.file_names("file_name"),
        file_names=annotations.file_names("file_name"),
        sizes=np.stack(sizes, axis=1),
        **_segment_columns(annotations, image_ids, categories, source=source),
    )


def _refuse_repeats(ids: np.ndarray, where: str) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if len(values) != len(ids):
        twice = values[counts > 1][0]
        raise RefineError(f"{where}: image id {twice} stands there twice; keep one")


def _in_image_order(entries: Entries, image_ids: np.ndarray, *, source: str) -> Entries:
    """One annotation for each image, in the images' order."""
    owners = entries.integers("image_id", low=0, high=2**62)
    _refuse_repeats(owners, f"{source}: 'annotations'")
    orphans = np.setdiff1d(owners, image_ids)
    if len(orphans):
        raise RefineError(
            f"{source}: the annotation of image id {orphans[0]} has no entry in 'images'; "
            "add the image or remove the annotation"
        )
    bare = np.setdiff1d(image_ids, owners)
    if len(bare):
        raise RefineError(
            f"{source}: image id {bare[0]} has no entry in 'annotations'; "
            "annotate the image or remove it"
        )
    place = dict(zip(owners.tolist(), entries.items, strict=True))
    ordered = [place[i] for i in image_ids.tolist()]
    return Entries(ordered, lambda k: f"{source}: annotation of image {image_ids[k]}")


def _segment_columns(
    annotations: Entries, image_ids: np.ndarray, categories: CategoryTable, *, source: str
) -> dict[str, np.ndarray]:
    lists: list[list[Any]] = annotations.column("segments_info", list)
    offsets = np.concatenate([[0], np.cumsum([len(segments) for segments in lists])])
    offsets = offsets.astype(np.int64)

    def describe(k: int) -> str:
        image = int(np.searchsorted(offsets, k, side="right")) - 1
        return f"{source}: image {image_ids[image]}: segments_info[{k - offsets[image]}]"

    segments = Entries(list(chain.from_iterable(lists)), describe)
    for k, segment in enumerate(segments.items):
        if type(segment) is not dict:
            raise RefineError(f"{describe(k)} is no object; give it id, category_id, iscrowd, area")
    ids = segments.integers("id", low=1, high=MAX_SEGMENT_ID)
    _refuse_repeated_segments(ids, offsets, segments)
    return {
        "offsets": offsets,
        "segment_ids": ids,
        "segment_categories": contiguous_categories(segments, categories),
        "segment_areas": segments.integers("area", low=1, high=2**62),
        "segment_crowds": segments.integers("iscrowd", low=0, high=1).astype(bool),
    }


def _refuse_repeated_segments(ids: np.ndarray, offsets: np.ndarray, segments: Entries) -> None:
    """Ids have to differ within an image (not between images)."""
    owners = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    keys = owners * (MAX_SEGMENT_ID + 1) + ids
    _, first = np.unique(keys, return_index=True)
    if len(first) != len(keys):
        k = int(np.setdiff1d(np.arange(len(keys)), first)[0])
        raise segments.error(k, "id", int(ids[k]), "the image has it twice, keep one")


def contiguous_categories(entries: Entries, categories: CategoryTable) -> np.ndarray:
    """The entries' ``category_id`` as ``[n]`` int64 contiguous ids.

    Raises:
        RefineError: A category is missing from the table.
    """
    dataset_ids: Sequence[int] = entries.integers("category_id", low=0, high=2**62).tolist()
    contiguous = [categories.to_contiguous(i) for i in dataset_ids]
    if None in contiguous:
        k = contiguous.index(None)
        raise entries.error(k, "category_id", dataset_ids[k], "add it to 'categories'")
    return np.array(contiguous, dtype=np.int64)
