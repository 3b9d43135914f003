"""Result files: the panoptic JSON that an evaluation takes, of ours or of anybody's making."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine.categories import CategoryTable
from refine.coco_format.annotations import MAX_SEGMENT_ID, contiguous_categories
from refine.coco_format.json_entries import entries_of, parse_json_object, read_bytes
from refine.errors import RefineError
from refine.types import Segment


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PanopticResults:
    """A panoptic result file.

    Attributes:
        source: Name of the file, for messages.
        file_names: PNG of each image id.
        segments: Segments of each image id, in the file's order; ``id`` is the 24-bit value of the
            PNG's pixels. Areas are 0: they are counted in the PNG.
    """

    source: str
    file_names: dict[int, str]
    segments: dict[int, tuple[Segment, ...]]


def load_panoptic_results(path: Path, categories: CategoryTable) -> PanopticResults:
    """Read and check a result file.

    Only ``annotations`` with ``image_id``, ``file_name`` and, for each of ``segments_info``, ``id``
    and ``category_id`` are needed; the official format promises no more. An image without segments
    is fine.

    Args:
        path: The JSON.
        categories: Those of the ground truth.

    Raises:
        RefineError: The file is missing, malformed, empty, or names an unknown category.
    """
    source = str(path)
    document = parse_json_object(read_bytes(path), source=source)
    entries = entries_of(document, "annotations", source=source)
    if not entries:
        raise RefineError(f"{source}: 'annotations' is empty; there is nothing to score")
    image_ids = entries.integers("image_id", low=0, high=2**62).tolist()
    _refuse_repeats(image_ids, source)
    file_names = entries.file_names("file_name").tolist()
    lists = entries.column("segments_info", list)
    return PanopticResults(
        source=source,
        file_names=dict(zip(image_ids, file_names, strict=True)),
        segments={
            image_id: _parse_segments(items, categories, where=f"{source}: image {image_id}")
            for image_id, items in zip(image_ids, lists, strict=True)
        },
    )


def _refuse_repeats(image_ids: Sequence[int], source: str) -> None:
    seen: set[int] = set()
    for image_id in image_ids:
        if image_id in seen:
            raise RefineError(f"{source}: image {image_id} has two annotations; keep one")
        seen.add(image_id)


def _parse_segments(
    items: list[dict[str, Any]], categories: CategoryTable, *, where: str
) -> tuple[Segment, ...]:
    entries = entries_of({"segments_info": items}, "segments_info", source=where)
    ids = entries.integers("id", low=1, high=MAX_SEGMENT_ID).tolist()
    for k, segment_id in enumerate(ids):
        if segment_id in ids[:k]:
            raise entries.error(k, "id", segment_id, "the image has it twice, keep one")
    return tuple(
        Segment(id=i, category=c, is_thing=categories.is_thing(c), area=0)
        for i, c in zip(ids, contiguous_categories(entries, categories).tolist(), strict=True)
    )
