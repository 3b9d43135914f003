"""COCO's result files of masks, of instances or of stuff."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refine.categories import CategoryTable
from refine.coco_format.annotations import ImageTable, contiguous_categories
from refine.coco_format.json_entries import Entries, parse_json, read_bytes
from refine.coco_format.outline_entries import read_mask_runs
from refine.errors import RefineError
from refine.ops.mask_runs import MaskRuns


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskResults:
    """Predicted masks as columns, image by image; those of an image are in the file's order.

    Attributes:
        source: File name shown in error messages.
        images: N images.
        offsets: ``[N + 1]`` int64: image k has the masks ``offsets[k] .. offsets[k + 1] - 1``.
        categories: ``[A]`` int64 contiguous ids.
        scores: ``[A]`` float64 in [0, 1]; 1 where the file has none.
        runs: The pixels of A masks.
    """

    source: str
    images: ImageTable
    offsets: np.ndarray
    categories: np.ndarray
    scores: np.ndarray
    runs: MaskRuns

    def part(self, first: int, last: int) -> "MaskResults":
        """What is predicted for the images ``first .. last - 1``."""
        offsets = self.offsets[first : last + 1]
        masks = slice(offsets[0], offsets[-1])
        return MaskResults(
            source=self.source,
            images=self.images.part(first, last),
            offsets=offsets - offsets[0],
            categories=self.categories[masks],
            scores=self.scores[masks],
            runs=self.runs.part(masks.start, masks.stop),
        )


def load_mask_results(
    path: Path,
    images: ImageTable,
    categories: CategoryTable,
    *,
    are_instances: bool,
    void: Collection[int] = (),
    least_score: float = 0.0,
) -> MaskResults:
    """Read a result file: a list of ``image_id``, ``category_id``, ``segmentation``, ``score``.

    Masks are polygons or run lengths. Instances need scores and thing categories. Left out are the
    things of a file of stuff, entries of the category ids ``void``, and instances that score below
    ``least_score``.

    Raises:
        RefineError: The file is missing or malformed, has boxes alone, or names unknown images or
            categories.
    """
    source = str(path)
    document = parse_json(read_bytes(path), source=source)
    if isinstance(document, dict):
        document = document.get("annotations")
    if not isinstance(document, list):
        raise RefineError(f"{source}: expected COCO's list of results; give such a file")
    entries = Entries(document, "results[]", lambda k: f"{source}: results[{k}]")
    if void:
        entries = entries.without("category_id", void)
    image_ids = entries.integers("image_id")
    for k in np.flatnonzero(~np.isin(image_ids, images.ids)).tolist():
        fix = f": image id {image_ids[k]} is not in {images.source}; give the JSON of these images"
        entries.reject(k, "is of an unknown image", fix)
    for k, item in enumerate(entries.items):
        if "segmentation" not in item:
            fix = ": no 'segmentation'; boxes alone cannot be fused, give polygons or run lengths"
            entries.reject(k, "has no mask", fix)
    scores = _read_scores(entries, are_instances=are_instances)
    contiguous = _read_categories(entries, categories, are_instances=are_instances)
    by_id = np.argsort(images.ids)
    places = by_id[np.searchsorted(images.ids, image_ids, sorter=by_id)]
    is_used = scores >= least_score if are_instances else contiguous >= categories.num_things
    order = np.argsort(places, kind="stable")
    order = order[is_used[order]]
    return MaskResults(
        source=source,
        images=images,
        offsets=np.searchsorted(places[order], np.arange(len(images.ids) + 1)),
        categories=contiguous[order],
        scores=scores[order],
        runs=read_mask_runs(entries.pick(order.tolist()), images.sizes[places[order]]),
    )


def _read_categories(
    entries: Entries, categories: CategoryTable, *, are_instances: bool
) -> np.ndarray:
    contiguous = contiguous_categories(entries, categories)
    if are_instances:
        for k in np.flatnonzero(contiguous >= categories.num_things).tolist():
            entries.reject_value(k, "category_id", "instances have to be of a thing category")
    return contiguous


def _read_scores(entries: Entries, *, are_instances: bool) -> np.ndarray:
    scores = entries.column("score", float, int, default=None if are_instances else 1.0)
    for k, score in enumerate(scores):
        if not 0 <= score <= 1:
            entries.reject_value(k, "score", "it has to lie in [0, 1]")
    return np.array(scores, np.float64)
