"""Panoptic maps as anyone has them: dictionaries with COCO's own field names."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from refine.categories import CategoryTable
from refine.errors import RefineError
from refine.metrics.functional import Panoptic
from refine.ops.arrays import to_array
from refine.types import GroundTruth, Segment


def read_panoptic(
    value: Panoptic | Mapping[str, Any],
    categories: CategoryTable,
    *,
    source: str,
    is_target: bool = False,
) -> Panoptic:
    """The segment map and the segments of a dictionary, checked; our own types as they are.

    Its form is that of :meth:`PanopticQuality.update`; messages call it ``source``.

    Raises:
        RefineError: Another form, a category that the table does not have, or a target whose stated
            area is not that of its pixels.
    """
    if isinstance(value, Panoptic):
        if getattr(value, "categories", categories) != categories:  # a PanopticResult has its own
            raise RefineError(f"{source}: made with other categories than the metric's")
        return value
    try:
        segment_map, infos = to_array(value["segment_map"]), list(value["segments_info"])
    except (KeyError, TypeError, IndexError):
        raise RefineError(
            f"{source}: expected a dictionary with segment_map and segments_info"
        ) from None
    if segment_map.ndim != 2 or segment_map.dtype.kind not in "iu":
        raise RefineError(
            f"{source}: segment_map is {segment_map.dtype} of shape {segment_map.shape}; expected "
            "integers [H, W]"
        )
    ids, counts = np.unique(segment_map, return_counts=True)
    areas = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    segments = []
    for k, info in enumerate(infos):
        where = f"{source}: segments_info[{k}]"
        try:
            segment_id, dataset_id = int(info["id"]), int(info["category_id"])
            pixels = areas.get(segment_id, 0)
            area = int(info.get("area", pixels))
        except (KeyError, TypeError, ValueError):
            raise RefineError(f"{where} is {info!r}; expected id and category_id") from None
        if is_target and area != pixels:  # IoU of a target is measured by its area
            raise RefineError(
                f"{where} states an area of {area}, but segment {segment_id} has {pixels} pixels; "
                "fix it, or leave area out"
            )
        category = categories.to_contiguous(dataset_id)
        if category is None:
            raise RefineError(f"{where} has the unknown category_id {dataset_id}")
        flags = {"is_thing": categories.is_thing(category), "is_crowd": bool(info.get("iscrowd"))}
        segments.append(Segment(id=segment_id, category=category, area=area, **flags))
    return GroundTruth(segment_map=segment_map, segments=tuple(segments))
