"""ROI-Flatten pixel by pixel: four taps a mask, then the maximum or the mean of what is there."""

import math

import numpy as np


def taps(box, side, v, u, stride):
    """``[(row, column, weight)]`` of the mask at a canvas pixel; None outside the box."""
    left, top, right, bottom = (float(e) for e in box)
    x, y = (u + 0.5) * stride, (v + 0.5) * stride
    if not (all(map(math.isfinite, box)) and left <= x < right and top <= y < bottom):
        return None
    j = (x - left) / (right - left) * side - 0.5
    i = (y - top) / (bottom - top) * side - 0.5
    return [
        (row, column, (1 - abs(i - row)) * (1 - abs(j - column)))
        for row in (math.floor(i), math.floor(i) + 1)
        for column in (math.floor(j), math.floor(j) + 1)
        if 0 <= row < side and 0 <= column < side
    ]


def flatten(masks, boxes, planes, grad, *, num_planes, size, stride=4, reduce="max"):
    """The canvas, and the gradient of ``(canvas * grad).sum()`` to the masks."""
    canvas, grad_masks = np.zeros((num_planes, *size)), np.zeros(masks.shape)
    for plane, v, u in np.ndindex(*canvas.shape):
        present = {
            n: found
            for n in range(len(masks))
            if planes[n] == plane and (found := taps(boxes[n], masks.shape[1], v, u, stride))
        }
        values = {n: sum(masks[n][i, j] * w for i, j, w in t) for n, t in present.items()}
        if not values:
            continue
        if reduce == "max":
            winner = max(values, key=values.get)  # the first of equals
            canvas[plane, v, u] = values[winner]
            shares = {winner: 1.0} if values[winner] > 0 else {}
        else:
            canvas[plane, v, u] = sum(values.values()) / len(values)
            shares = dict.fromkeys(values, 1 / len(values))
        for n, share in shares.items():
            for i, j, weight in present[n]:
                grad_masks[n, i, j] += weight * share * grad[plane, v, u]
    return canvas, grad_masks
