"""Test-time augmentation, view by view and pixel by pixel."""

import numpy as np

from oracles.semantic import sample_logits


def merge_boxes(views, frames, *, iou_thresh, limit):
    """``[(box, label, score)]`` in the first view's pixels; ``views`` are lists of the same.

    ``frames`` are ``(height, width, is_flipped)``.
    """
    every = []
    height, width, _ = frames[0]
    for found, (h, w, is_flipped) in zip(views, frames, strict=True):
        for (x0, y0, x1, y1), label, score in found:
            if is_flipped:
                x0, x1 = w - x1, w - x0
            box = (x0 * width / w, y0 * height / h, x1 * width / w, y1 * height / h)
            every.append((box, label, score))
    kept = []
    for box, label, score in sorted(every, key=lambda entry: -entry[2]):
        rivals = [other for other, of_other, _ in kept if of_other == label]
        if all(_iou(box, other) <= iou_thresh for other in rivals):
            kept.append((box, label, score))
    return kept[:limit]


def _iou(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (a, b)]
    return width * height / (sum(areas) - width * height)


def mean_probabilities(logits, frames, original_size):
    """``[H, W, C]`` of the semantic logits of every view, ``[C, h, w]`` each."""
    total = 0.0
    for of_view, (height, width, is_flipped) in zip(logits, frames, strict=True):
        values = np.exp(sample_logits(of_view, (height, width), original_size))
        shares = values / values.sum(axis=2, keepdims=True)
        total = total + (shares[:, ::-1] if is_flipped else shares)
    return total / len(frames)


def mean_masks(probabilities, frames):
    """``[N, m, m]`` of ``[N, m, m]`` for every view."""
    turned = [
        [[row[::-1] if is_flipped else row for row in mask] for mask in of_view]
        for of_view, (_, _, is_flipped) in zip(probabilities, frames, strict=True)
    ]
    return np.mean(turned, axis=0)
