"""Ordered pairs of instances, one pixel at a time."""

from collections import Counter

import numpy as np

from oracles.overlaps import best_first


def find_pairs(instances, segments, segment_map, rho):
    """``{(id i, id j): id on top}`` in the order of the instances.

    ``instances``: ``(id, category, is_crowd, full mask)``; ``segments``: ``(segment id, category,
    is_thing, is_crowd)``; ``rho``: smallest share of either mask.
    """
    known = [(i, c, pixels_of(m)) for i, c, crowd, m in instances if not crowd and m.any()]
    owners = match(known, segments, segment_map)
    found = {}
    for a, (i, _, first) in enumerate(known):
        for j, _, second in known[a + 1 :]:
            both = first & second
            if not both or (len(both) / len(first) < rho and len(both) / len(second) < rho):
                continue
            if i not in owners or j not in owners:
                continue
            votes = Counter(int(segment_map[p]) for p in both if segment_map[p] != 0)
            most = max(votes.values(), default=0)
            ours, theirs = votes[owners[i]], votes[owners[j]]
            if ours != theirs and most in (ours, theirs):
                found[i, j] = i if ours > theirs else j
    return found


def match(known, segments, segment_map):
    """Instance id to segment id, by IoU."""
    fits = []
    for segment, category, is_thing, is_crowd in segments:
        visible = pixels_of(segment_map == segment)
        for i, label, pixels in known:
            if is_thing and not is_crowd and label == category:
                fits.append((len(visible & pixels) / max(len(visible | pixels), 1), i, segment))
    return best_first(fits)


def pixels_of(mask):
    return {(int(y), int(x)) for y, x in np.argwhere(mask)}
