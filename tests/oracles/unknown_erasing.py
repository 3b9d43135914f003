"""Unknown Erasing, one pixel, one component and one candidate at a time."""

import numpy as np

from oracles.semantic import sample_logits

VOID = 255


def dilate(mask, radius):
    """All pixels with a pixel of the mask at most ``radius`` rows and columns away."""
    result = np.zeros_like(mask)
    for y, x in zip(*np.nonzero(mask), strict=True):
        result[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1] = True
    return result


def flood(mask):
    """``[H, W]`` number of each pixel's component from 1 on (4 neighbours), 0 outside."""
    labels, free = np.zeros(mask.shape, int), {*map(tuple, np.argwhere(mask).tolist())}
    while free:
        number, found = labels.max() + 1, [free.pop()]
        for y, x in found:
            labels[y, x] = number
            near = {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)} & free
            found += near
            free -= near
    return labels


def components(categories, radius):
    """``(category, mask of its own pixels)`` of every component of every dilated mask."""
    found = []
    for category in np.unique(categories[categories != VOID]).tolist():
        mask = categories == category
        labels = flood(dilate(mask, radius))
        found += [(category, mask & (labels == k)) for k in range(1, labels.max() + 1)]
    return found


def best_categories(logits, image_size, at):
    """``[h, w]`` best category and its probability, of cells or of network pixels."""
    if at == "input":
        values = sample_logits(logits, image_size, image_size)
    else:
        height, width = -(-image_size[0] // 4), -(-image_size[1] // 4)
        values = np.moveaxis(np.asarray(logits, np.float64), 0, -1)[:height, :width]
    powers = np.exp(values - values.max(-1, keepdims=True))
    return values.argmax(-1), (powers / powers.sum(-1, keepdims=True)).max(-1)


def nearest_of_category(best, category, y, x):
    """The cell of that category nearest to a point, among the nine around the point's cell."""
    own_y, own_x = min(int(y), best.shape[0] - 1), min(int(x), best.shape[1] - 1)
    found = [
        ((y - cy - 0.5) ** 2 + (x - cx - 0.5) ** 2, cy, cx)
        for cy in range(max(own_y - 1, 0), min(own_y + 2, best.shape[0]))
        for cx in range(max(own_x - 1, 0), min(own_x + 2, best.shape[1]))
        if best[cy, cx] == category
    ]
    return min(found)[1:] if found else None


def erase(logits, semantic, *, image_size, first_category, radius, at, score_thresh):
    """The semantic map with doubtful regions void; ``radius`` in cells or network pixels."""
    best, probability = best_categories(logits, image_size, at)
    considered = np.where(best >= first_category, best, VOID)
    erased = np.zeros(best.shape, bool)
    for _, mask in components(considered, radius):
        erased |= mask & (probability[mask].mean() < score_thresh)
    stride = 1 if at == "input" else 4
    result = semantic.copy()
    for y in range(semantic.shape[0]):
        for x in range(semantic.shape[1]):
            place_y = (y + 0.5) * image_size[0] / (semantic.shape[0] * stride)
            place_x = (x + 0.5) * image_size[1] / (semantic.shape[1] * stride)
            cell = nearest_of_category(best, semantic[y, x], place_y, place_x)
            if cell is not None and erased[cell]:
                result[y, x] = VOID
    return result
