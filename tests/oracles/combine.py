"""The rules by which panopticapi combines instance and semantic results, on full canvases."""

import numpy as np


def combine(instances, stuff, size, *, confidence=0.5, overlap=0.5, stuff_limit=64 * 64):
    """The segments of one image, ``(category, mask)`` in the order in which they get their ids.

    Instances are ``(mask, category, score)`` and stuff is ``(mask, category)``, in the order of
    their files. The confident instances come by descending score. One is dropped if it is empty or
    if more than the share ``overlap`` of it lies under all that came before; else it gets what they
    left. Stuff gets what is left then, unless that is less than ``stuff_limit`` pixels.
    """
    covered = np.zeros(size, bool)
    segments = []
    confident = [i for i in instances if not i[2] < confidence]
    for mask, category, _ in sorted(confident, key=lambda i: i[2], reverse=True):
        area = np.sum(mask)
        if area == 0 or np.sum(mask * covered) / area > overlap:
            continue
        segments.append((category, mask & ~covered))
        covered = covered | mask
    for mask, category in stuff:
        left = mask & ~covered
        if np.sum(left) >= stuff_limit:
            segments.append((category, left))
            covered = covered | left
    return segments
