"""The order that the ground truth gives to predicted instances: the headroom of any relation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refine.fusion.merge import Instance
from refine.fusion.overlaps import cross_overlaps, shared_window
from refine.metrics.functional import MATCH_IOU
from refine.ops.outlines import decode_mask, tight_crop
from refine.types import GroundTruth, InstanceTruth, MaskCrop


@dataclass(frozen=True, slots=True, eq=False)
class _Thing:
    """A true instance: a segment of the map, with its full outline if one is known."""

    segment_id: int
    category: int
    outline: MaskCrop


def true_order(instances: Sequence[Instance], pairs: np.ndarray, truth: GroundTruth) -> np.ndarray:
    """Which of two predicted instances is on top in the ground truth.

    A prediction stands for the true instance of its category with the highest mask IoU, if that is
    above 1/2. Of two true instances the one that owns most of the overlap of their full outlines in
    the true segment map is on top. A dataset without outlines has nothing that overlaps: then the
    owner of most of the overlap of the two predicted masks is.

    Args:
        instances: N predicted instances at original size.
        pairs: ``[K, 2]`` int64 positions ``(i, j)``.
        truth: The ground truth of the image.

    Returns:
        ``[K]`` float64 in [-1, 1]: the share of the overlap that i's instance owns less that of
        j's; NaN where the truth does not tell (one has no true instance, both have the same one,
        nothing overlaps, a third segment owns most).
    """
    things = _true_things(truth)
    matches = _match(instances, things)
    order = np.full(len(pairs), np.nan)
    for n, (i, j) in enumerate(pairs.tolist()):
        first, second = matches[i], matches[j]
        if first is None or second is None or first is second:
            continue
        if truth.instances is None:
            masks = instances[i].crop, instances[j].crop
        else:
            masks = first.outline, second.outline
        rows, columns, both = shared_window(*masks)
        owners = truth.segment_map[rows, columns][both]
        order[n] = lead(owners, first.segment_id, second.segment_id)
    return order


def lead(owners: np.ndarray, first: int, second: int) -> float:
    """How much more of some pixels one segment owns than another.

    Args:
        owners: ``[n]`` segment ids of the pixels; void (0) has no say.
        first: Id of the one.
        second: Id of the other.

    Returns:
        The difference as a share of the pixels that are not void, in [-1, 1]; NaN if both own
        equally many or a third segment owns more.
    """
    ids, counts = np.unique(owners[owners > 0], return_counts=True)
    pixels = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    ours, theirs = pixels.get(first, 0), pixels.get(second, 0)
    if ours == theirs or max(ours, theirs) < max(pixels.values()):
        return float("nan")
    return float((ours - theirs) / counts.sum())


def _true_things(truth: GroundTruth) -> list[_Thing]:
    things = []
    for segment in truth.segments:
        crop = tight_crop(truth.segment_map == segment.id)
        if segment.is_thing and not segment.is_crowd and crop is not None:
            things.append(_Thing(segment.id, segment.category, crop))
    return things if truth.instances is None else _with_outlines(things, truth.instances)


def _with_outlines(things: list[_Thing], truth: InstanceTruth) -> list[_Thing]:
    """Each visible part with the outline that fits it best."""
    known = np.flatnonzero(~truth.is_crowd)
    outlines = [decode_mask(truth.masks[k]) for k in known.tolist()]
    matches = match_outlines(
        [t.outline for t in things],
        [t.category for t in things],
        outlines=outlines,
        outline_categories=truth.labels[known].tolist(),
    )
    completed = list(things)
    for thing, outline in matches.items():
        part = things[thing]
        completed[thing] = _Thing(part.segment_id, part.category, outlines[outline])
    return completed


def match_outlines(
    parts: Sequence[MaskCrop],
    part_categories: Sequence[int],
    *,
    outlines: Sequence[MaskCrop],
    outline_categories: Sequence[int],
) -> dict[int, int]:
    """Find the full outline of each part that a segment map shows.

    An outline fits a part of its category with which it shares pixels; of all that fit, those with
    the highest mask IoU are matched first, and every part and outline is used once.

    Returns:
        Positions in ``parts`` to positions in ``outlines``; parts without an outline are not there.
    """
    iou = _iou(parts, outlines)
    iou *= np.equal.outer(part_categories, outline_categories)
    matches: dict[int, int] = {}
    while iou.any():
        part, outline = divmod(int(iou.argmax()), iou.shape[1])
        matches[part] = outline
        iou[part] = iou[:, outline] = 0
    return matches


def _match(instances: Sequence[Instance], things: Sequence[_Thing]) -> list[_Thing | None]:
    iou = _iou([i.crop for i in instances], [t.outline for t in things])
    iou *= np.equal.outer([i.label for i in instances], [t.category for t in things])
    return [things[int(row.argmax())] if row.max(initial=0.0) > MATCH_IOU else None for row in iou]


def _iou(first: Sequence[MaskCrop], second: Sequence[MaskCrop]) -> np.ndarray:
    """``[N, M]`` float64; 0 between empty masks."""
    common = cross_overlaps(first, second)
    areas = [[np.count_nonzero(crop.mask) for crop in crops] for crops in (first, second)]
    union = np.add.outer(*(np.array(a, np.int64) for a in areas)) - common
    iou: np.ndarray = common / np.maximum(union, 1)
    return iou
