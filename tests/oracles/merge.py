"""The panoptic merge on full canvases, one instance and one category after the other."""

import numpy as np

VOID = 255


def merge(masks, labels, scores, semantic, *, num_things, score_thresh, overlap_thresh, limit):
    """The segment map and one ``(id, category, is_thing, area, score)`` a segment."""
    segment_map = np.zeros(semantic.shape, np.int64)
    segments = []
    order = sorted(range(len(masks)), key=lambda k: (-scores[k], k))
    for k in order:
        if scores[k] < score_thresh or masks[k].sum() == 0:
            continue
        taken = masks[k] & (segment_map > 0)
        if taken.sum() / masks[k].sum() > overlap_thresh:
            continue
        visible = masks[k] & (segment_map == 0)
        if visible.sum() == 0:
            continue
        segments.append((len(segments) + 1, labels[k], True, visible.sum(), scores[k]))
        segment_map[visible] = len(segments)
    for category in range(num_things, int(semantic.max()) + 1):
        free = (segment_map == 0) & (semantic == category)
        if category == VOID or free.sum() == 0 or free.sum() < limit:
            continue
        segments.append((len(segments) + 1, category, False, free.sum(), 1.0))
        segment_map[free] = len(segments)
    return segment_map, segments
