"""One pair of instances at a time: 1 if i lies over j, -1 if j over i, 0 without a relation."""

from collections import Counter
from decimal import Decimal, localcontext

from oracles.overlaps import best_first


def is_queried(mask_i, mask_j, label_i, label_j, *, overlap_thresh, intra_category):
    """The masks share a pixel, and enough of one of them lies in the other."""
    common = (mask_i & mask_j).sum()
    if common == 0 or (label_i == label_j and not intra_category):
        return False
    return common / mask_i.sum() >= overlap_thresh or common / mask_j.sum() >= overlap_thresh


def higher(value_i, value_j):
    """The higher value; of equal ones that of i, the instance of the higher score."""
    return 1 if value_i >= value_j else -1


def area(mask_i, mask_j):
    return higher(-int(mask_i.sum()), -int(mask_j.sum()))


def shr(box_i, box_j, frac):
    width = max(min(box_i[2], box_j[2]) - max(box_i[0], box_j[0]), 0)
    height = max(min(box_i[3], box_j[3]) - max(box_i[1], box_j[1]), 0)
    if width * height / ((box_i[2] - box_i[0]) * (box_i[3] - box_i[1])) > frac:
        return 1
    if width * height / ((box_j[2] - box_j[0]) * (box_j[3] - box_j[1])) > frac:
        return -1
    return 0


def srm(ranking_i, ranking_j, label_i, label_j):
    return 0 if label_i == label_j else higher(ranking_i, ranking_j)


def soft_occlusion(score_i, score_j, o_ij, o_ji, sigma):
    """Eq. 7 as printed, with numbers that do not run out of digits."""
    with localcontext() as context:
        context.prec = 50
        s_i, s_j, o_ij, o_ji, sigma = map(Decimal, (score_i, score_j, o_ij, o_ji, sigma))
        return higher(
            s_i * (-((o_ij - 1) ** 2) / sigma).exp(), s_j * (-((o_ji - 1) ** 2) / sigma).exp()
        )


def iou(mask, other):
    return (mask & other).sum() / max((mask | other).sum(), 1)


def complete(things, outlines):
    """True ``(segment id, category, visible mask)`` with the best outline instead of the mask."""
    chosen = best_first(
        (iou(visible, outline), t, o)
        for t, (_, category, visible) in enumerate(things)
        for o, (label, outline) in enumerate(outlines)
        if category == label
    )
    return [
        (number, category, outlines[chosen[t]][1] if t in chosen else visible)
        for t, (number, category, visible) in enumerate(things)
    ]


def true_matches(masks, labels, things):
    """Per prediction the true ``(segment id, category, full mask)`` that it stands for, or None."""
    matches = []
    for mask, label in zip(masks, labels, strict=True):
        fitting = [t for t in things if t[1] == label and iou(mask, t[2]) > 0.5]
        matches.append(max(fitting, key=lambda t: iou(mask, t[2]), default=None))
    return matches


def oracle(match_i, match_j, region, segment_map):
    """Majority owner of the region, void aside."""
    if match_i is None or match_j is None or match_i is match_j:
        return 0
    counts = Counter(segment_map[region & (segment_map != 0)].tolist())
    owners = [k for k, n in counts.items() if n == max(counts.values())]
    return int(match_i[0] in owners) - int(match_j[0] in owners)
