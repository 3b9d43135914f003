"""The panoptic merge: overlapping instances and a semantic map become one segment map.

The heuristic of Kirillov et al. 2019 ("Panoptic Segmentation", section 6) as detectron2 runs it:

1. Instances below the score limit are left out; the others come by descending score.
2. An instance whose mask is taken for more than ``overlap_thresh`` is left out; else it gets those
   of its pixels that are free.
3. Each stuff category gets its free pixels as one segment, or none if they are too few.

Everything else is void: free pixels of thing categories in the semantic map, too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refine.options import MergeOptions
from refine.types import IGNORE_INDEX, MaskCrop, PanopticPrediction, Segment


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One detected thing at original size.

    Attributes:
        crop: Its binary mask.
        label: Thing category.
        score: Detection score in [0, 1].
    """

    crop: MaskCrop
    label: int
    score: float


def merge_segments(
    instances: Sequence[Instance],
    semantic: np.ndarray,
    *,
    num_things: int,
    options: MergeOptions,
    stuff_area_limit_px: int,
) -> PanopticPrediction:
    """Merge the predictions of one image.

    Args:
        instances: In any order; of equal scores the earlier one comes first.
        semantic: ``[H, W]`` uint8 or wider integer: contiguous category or 255 (void).
        num_things: Categories from here on are stuff.
        options: Limits of score and overlap.
        stuff_area_limit_px: Stuff with fewer free pixels becomes void.

    Returns:
        Instances in the order of their acceptance, ids from 1, then stuff by category.

    Raises:
        ValueError: A score is NaN, or a label is no thing category.
    """
    segment_map = np.zeros(semantic.shape, np.int32)
    things = _paint_things(segment_map, _by_score(instances, options, num_things), options)
    stuff = _paint_stuff(
        segment_map,
        semantic,
        first_id=len(things) + 1,
        num_things=num_things,
        area_limit_px=stuff_area_limit_px,
    )
    return PanopticPrediction(segment_map=segment_map, segments=(*things, *stuff))


def _by_score(
    instances: Sequence[Instance], options: MergeOptions, num_things: int
) -> list[Instance]:
    for instance in instances:
        if math.isnan(instance.score):
            raise ValueError("an instance has the score NaN")
        if not 0 <= instance.label < num_things:
            raise ValueError(f"label {instance.label}: expected 0 to {num_things - 1}, a thing")
    kept = [i for i in instances if i.score >= options.score_thresh]
    return sorted(kept, key=lambda i: -i.score)


def _paint_things(
    segment_map: np.ndarray, ordered: Sequence[Instance], options: MergeOptions
) -> list[Segment]:
    accepted: list[Instance] = []
    areas: list[int] = []
    for instance in ordered:
        view, mask = segment_map[instance.crop.slices], instance.crop.mask
        claimed = mask & (view == 0)
        area, mask_area = int(np.count_nonzero(claimed)), int(np.count_nonzero(mask))
        # divided, not multiplied: a share of exactly the limit must come out as the limit
        if area == 0 or (mask_area - area) / mask_area > options.overlap_thresh:
            continue
        accepted.append(instance)
        areas.append(area)
        np.copyto(view, len(accepted), where=claimed)
    return [
        Segment(id=k, category=i.label, is_thing=True, area=area, score=i.score)
        for k, (i, area) in enumerate(zip(accepted, areas, strict=True), start=1)
    ]


def _paint_stuff(
    segment_map: np.ndarray,
    semantic: np.ndarray,
    *,
    first_id: int,
    num_things: int,
    area_limit_px: int,
) -> list[Segment]:
    free = np.where(segment_map == 0, semantic, semantic.dtype.type(IGNORE_INDEX))
    areas = np.bincount(free.ravel(), minlength=IGNORE_INDEX + 1)
    areas[:num_things] = areas[IGNORE_INDEX] = 0
    categories = np.flatnonzero(areas >= max(area_limit_px, 1))
    ids = np.zeros(len(areas), np.int32)
    ids[categories] = np.arange(first_id, first_id + len(categories))
    segment_map += ids[free]
    return [
        Segment(id=int(ids[c]), category=int(c), is_thing=False, area=int(areas[c]))
        for c in categories
    ]
