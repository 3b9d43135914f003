"""The panoptic merge on full canvases, one instance and one category after the other."""

import numpy as np

VOID = 255


def merge(
    masks, labels, scores, semantic, *, num_things, score_thresh, overlap_thresh, limit,
    relations=(), overlap_rule="covered", order="score",
):  # fmt: skip
    """The segment map and one ``(id, category, is_thing, area, score)`` a segment.

    ``relations``: ``(upper, lower, margin)``.
    """
    by_score = sorted(range(len(masks)), key=lambda k: (-scores[k], k))
    kept = [k for k in by_score if scores[k] >= score_thresh and masks[k].sum() > 0]
    visible = share_out(masks, kept, relations, overlap_thresh, overlap_rule)
    if order == "topological":
        visible = paint(masks, list(visible), relations)
    segment_map = np.zeros(semantic.shape, np.int64)
    segments = []
    for k, pixels in visible.items():
        if pixels.sum() > 0:
            segments.append((len(segments) + 1, labels[k], True, pixels.sum(), scores[k]))
            segment_map[pixels] = len(segments)
    for category in range(num_things, int(semantic.max()) + 1):
        free = (segment_map == 0) & (semantic == category)
        if category == VOID or free.sum() == 0 or free.sum() < limit:
            continue
        segments.append((len(segments) + 1, category, False, free.sum(), 1.0))
        segment_map[free] = len(segments)
    return segment_map, segments


def share_out(masks, by_score, relations, overlap_thresh, overlap_rule):
    """The visible pixels of every accepted instance, in the order of acceptance."""
    visible = {}
    for k in by_score:
        taken = np.zeros_like(masks[k])
        for other, pixels in visible.items():
            if not any((u, v) == (k, other) for u, v, _ in relations):
                taken |= pixels
        claimed = masks[k] & ~taken
        if overlap_rule == "covered":
            is_accepted = (masks[k] & taken).sum() / masks[k].sum() <= overlap_thresh
        else:
            is_accepted = claimed.sum() / masks[k].sum() > overlap_thresh
        if is_accepted and claimed.sum() > 0:
            for other in visible:
                visible[other] = visible[other] & ~claimed
            visible[k] = claimed
    return visible


def paint(masks, by_score, relations):
    """The visible pixels when each instance covers those painted before it."""
    visible = {k: np.zeros_like(masks[k]) for k in by_score}
    for k in bottom_up(by_score, relations):
        for other in visible:
            visible[other] = visible[other] & ~masks[k]
        visible[k] = masks[k]
    return visible


def bottom_up(by_score, relations):
    """Instances from bottom to top; the weakest relation of every circle is dropped."""
    edges = [e for e in relations if e[0] in by_score and e[1] in by_score]
    while circular := [e for e in edges if e[0] in reachable(e[1], edges)]:
        weakest = min(margin for *_, margin in circular)
        edges.remove([e for e in circular if e[2] == weakest][-1])
    order = []
    while len(order) < len(by_score):
        free = [k for k in by_score if k not in order]
        free = [k for k in free if all(v in order for u, v, _ in edges if u == k)]
        order.append(free[-1])
    return order


def reachable(start, edges):
    """Every instance below ``start``, and itself."""
    found = [start]
    for k in found:
        found += {v for u, v, _ in edges if u == k and v not in found}
    return found
