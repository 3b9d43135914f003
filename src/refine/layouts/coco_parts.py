"""COCO instances with a semantic map for each image, or with COCO's stuff JSON."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from refine.categories import CategoryTable
from refine.coco_format.annotations import ImageTable, PanopticAnnotations, load_image_table
from refine.coco_format.instances import parse_instances_json
from refine.coco_format.json_entries import entries_of, parse_json_object, read_bytes
from refine.coco_format.mask_results import load_mask_results
from refine.coco_format.semantic_files import SemanticFiles
from refine.coco_format.storage import Storage
from refine.data.rows import original_mask, paint_stuff
from refine.errors import RefineError
from refine.layouts.annotated_images import AnnotatedImage, Layout, Shape
from refine.layouts.painting import paint_shapes


class CocoParts(Layout):
    """Things of an instances JSON, which overlap, on the stuff of semantic maps or masks.

    Args:
        instances: COCO instances JSON, whose ``images`` are converted.
        semantic: Folder or zip of label maps, called as the images are; or COCO's stuff JSON.
        images: The photos, by the names in the instances JSON.
        categories: The categories; None takes those of the two JSON files, where the instances
            JSON has the things.
        overlaps: Which of two overlapping things lies on top.
        void: Category ids that become void.

    Raises:
        RefineError: A file is missing or malformed, or nothing says what is a thing.
    """

    has_outlines = True

    def __init__(
        self,
        instances: Path,
        semantic: Path,
        images: Storage,
        *,
        categories: CategoryTable | None,
        overlaps: str,
        void: Collection[int],
    ) -> None:
        self.images, self._overlaps = images, overlaps
        self._table = load_image_table(instances)
        self.categories = categories or _join_categories(instances, semantic)
        void = {v for v in void if self.categories.to_contiguous(v) is None}
        self._instances = parse_instances_json(
            read_bytes(instances),
            _without_segments(self._table, self.categories),
            source=str(instances),
            void=void,
        )
        self._is_json = semantic.suffix == ".json"
        if self._is_json:
            self._stuff = load_mask_results(
                semantic, self._table, self.categories, are_instances=False, void=void
            )
        else:
            ids = [c.dataset_id for c in self.categories.categories]
            self._maps = SemanticFiles(semantic, self.categories, ids, void=void)

    def __len__(self) -> int:
        return len(self._table.ids)

    def read(self, k: int) -> AnnotatedImage:
        """Image ``k`` of the instances JSON."""
        image_id, name = int(self._table.ids[k]), str(self._table.names[k])
        height, width = self._table.sizes[k].tolist()
        stuff = self._read_stuff(k, name, (height, width))
        annotations = self._instances.of_image(image_id)
        shapes = [
            Shape(category=a.category, outline=a.outline, crop=crop, is_crowd=a.is_crowd)
            for a in annotations
            if (crop := original_mask(a.outline, (height, width))) is not None
        ]
        segment_map, segments, notes = paint_shapes(
            shapes, stuff, overlaps=self._overlaps, categories=self.categories
        )
        notes["outlines without a pixel"] += len(annotations) - len(shapes)
        return AnnotatedImage(
            image_id=image_id,
            image_name=name,
            segment_map=segment_map,
            segments=segments,
            outlines=tuple(shapes),
            notes=notes,
        )

    def _read_stuff(self, k: int, name: str, size: tuple[int, int]) -> np.ndarray:
        if self._is_json:
            return paint_stuff(self._stuff.part(k, k + 1))[0]
        values = self._maps.read(name, size)
        if values.ndim != 2:
            raise RefineError(f"{name}: its semantic map holds probabilities; give a label map")
        return values


def _join_categories(instances: Path, semantic: Path) -> CategoryTable:
    """The things of an instances JSON, and the other categories of a stuff JSON."""
    entries = _read_categories(instances, is_thing=1 if semantic.suffix == ".json" else None)
    if semantic.suffix == ".json":
        known = {entry["id"] for entry in entries}
        stuff = _read_categories(semantic, is_thing=0)
        entries += [entry for entry in stuff if entry["id"] not in known]
    return CategoryTable.of(entries, source=str(instances))


def _read_categories(path: Path, *, is_thing: int | None) -> list[dict[str, Any]]:
    """A JSON's categories; ``is_thing`` holds where they do not say it."""
    document = parse_json_object(read_bytes(path), source=str(path))
    entries = entries_of(document, "categories", source=str(path))
    entries.integers("id")
    if is_thing is None and not all("isthing" in entry for entry in entries.items):
        raise RefineError(
            f"{path}: its categories have no 'isthing' and label maps no names; give table=FILE.csv"
        )
    return [{"isthing": is_thing, **entry} for entry in entries.items]


def _without_segments(images: ImageTable, categories: CategoryTable) -> PanopticAnnotations:
    """The images as a panoptic JSON would list them that has no segment yet."""
    none = np.zeros(0, np.int64)
    return PanopticAnnotations(
        source=images.source,
        sha256="",
        categories=categories,
        image_ids=images.ids,
        image_names=images.names,
        file_names=images.names,
        sizes=images.sizes,
        offsets=np.zeros(len(images.ids) + 1, np.int64),
        segment_ids=none,
        segment_categories=none,
        segment_areas=none,
        segment_crowds=none.astype(bool),
    )
