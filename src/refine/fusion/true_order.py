"""The order that the ground truth gives to predicted instances: the headroom of any relation."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from refine.fusion.merge import Instance
from refine.fusion.overlaps import cross_ious, shared_window
from refine.metrics.functional import MATCH_IOU
from refine.ops.outlines import decode_mask, tight_crop
from refine.types import GroundTruth, MaskCrop, Segment


def true_order(instances: Sequence[Instance], pairs: np.ndarray, truth: GroundTruth) -> np.ndarray:
    """Which of two predicted instances is on top in the ground truth.

    A prediction stands for the true instance of its category with the highest mask IoU, if that is
    above 1/2. Of two true instances the one that owns most of the overlap of their full outlines in
    the true segment map is on top. A dataset without outlines has nothing that overlaps: then the
    owner of most of the overlap of the two predicted masks is.

    Returns:
        ``[K]`` float64 in [-1, 1] of ``[K, 2]`` pairs ``(i, j)``: the :func:`lead` of i's instance
        in the overlap; NaN where the truth does not tell (one has no true instance, both have the
        same one, nothing overlaps).
    """
    segments, outlines = _true_things(truth)
    crops = [i.crop for i in instances]
    iou = cross_ious(crops, outlines)
    iou *= np.equal.outer([i.label for i in instances], [s.category for s in segments])
    matches = [int(row.argmax()) if row.max(initial=0.0) > MATCH_IOU else -1 for row in iou]
    order = np.full(len(pairs), np.nan)
    for n, (i, j) in enumerate(pairs.tolist()):
        first, second = matches[i], matches[j]
        if first < 0 or second < 0 or first == second:
            continue
        masks = (
            (crops[i], crops[j]) if truth.instances is None else (outlines[first], outlines[second])
        )
        rows, columns, both = shared_window(*masks)
        owners = truth.segment_map[rows, columns][both]
        order[n] = lead(owners, segments[first].id, segments[second].id)
    return order


def lead(owners: np.ndarray, first: int, second: int) -> float:
    """How much more of some pixels, given as ``[n]`` segment ids, one segment owns than another.

    It is a share of those that are not void (0), in [-1, 1]; NaN if both own equally many or a
    third segment owns more.
    """
    pixels = Counter(owners[owners > 0].tolist())
    ours, theirs = pixels[first], pixels[second]
    if ours == theirs or max(ours, theirs) < max(pixels.values()):
        return float("nan")
    return (ours - theirs) / pixels.total()


def match_outlines(
    parts: Sequence[MaskCrop],
    part_categories: Sequence[int],
    *,
    outlines: Sequence[MaskCrop],
    outline_categories: Sequence[int],
) -> dict[int, int]:
    """Positions of parts that a segment map shows, to those of their full outlines, if they fit.

    An outline fits a part of its category with which it shares pixels; of all that fit, those with
    the highest mask IoU are matched first, and every part and outline is used once.
    """
    iou = cross_ious(parts, outlines)
    iou *= np.equal.outer(part_categories, outline_categories)
    matches: dict[int, int] = {}
    while iou.any():
        part, outline = divmod(int(iou.argmax()), iou.shape[1])
        matches[part] = outline
        iou[part] = iou[:, outline] = 0
    return matches


def _true_things(truth: GroundTruth) -> tuple[list[Segment], list[MaskCrop]]:
    """The instances of the map: full outlines where they are known, else the visible parts."""
    things = [s for s in truth.segments if s.is_thing and not s.is_crowd]
    crops = ((s, tight_crop(truth.segment_map == s.id)) for s in things)
    found = [(s, crop) for s, crop in crops if crop is not None]
    segments, parts = [s for s, _ in found], [crop for _, crop in found]
    if truth.instances is None:
        return segments, parts
    known = np.flatnonzero(~truth.instances.is_crowd)
    outlines = [decode_mask(truth.instances.masks[k]) for k in known.tolist()]
    matches = match_outlines(
        parts,
        [s.category for s in segments],
        outlines=outlines,
        outline_categories=truth.instances.labels[known].tolist(),
    )
    whole = [outlines[matches[k]] if k in matches else part for k, part in enumerate(parts)]
    return segments, whole
