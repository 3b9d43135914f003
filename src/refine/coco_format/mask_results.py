"""COCO's result files of masks, of instances or of stuff."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refine.categories import CategoryTable
from refine.coco_format.annotations import ImageTable, contiguous_categories
from refine.coco_format.instances import InstanceAnnotations, plain_annotations
from refine.coco_format.json_entries import Entries, parse_json, read_bytes
from refine.errors import RefineError


@dataclass(frozen=True, slots=True, eq=False)
class MaskResults:
    """Predicted masks as columns.

    Attributes:
        masks: The masks by image, in the file's order; an ``id`` is a position in ``scores``.
        scores: ``[A]`` float64 in [0, 1]; 1 where the file has none.
    """

    masks: InstanceAnnotations
    scores: np.ndarray


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

    Masks are polygons or run lengths. Instances need scores and thing categories; a file of stuff
    may hold things, too. Entries of the category ids ``void`` are left out, and instances that
    score below ``least_score``.

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
    order = np.argsort(image_ids, kind="stable")
    order = order[scores[order] >= least_score]
    entries, image_ids = entries.pick(order.tolist()), image_ids[order]
    by_id = np.argsort(images.ids)
    places = by_id[np.searchsorted(images.ids, image_ids, sorter=by_id)]
    masks = plain_annotations(
        entries,
        source=source,
        image_ids=image_ids,
        sizes=images.sizes[places],
        categories=contiguous[order],
    )
    return MaskResults(masks, scores[order])


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
