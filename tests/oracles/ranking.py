"""The ranking network's maps, loss and scores, cell by cell."""

import math

import numpy as np


def category_map(cells, labels, num_things):
    """``[num_things, h, w]`` bool of ``[N, h, w]`` bool."""
    maps = np.zeros((num_things, *cells.shape[1:]), bool)
    for n, y, x in np.argwhere(cells):
        maps[labels[n], y, x] = True
    return maps


def outline_cells(mask):
    """``[H / 4, W / 4]`` bool: more than half of a cell's 16 pixels of ``[H, W]`` bool."""
    cells = np.zeros((mask.shape[0] // 4, mask.shape[1] // 4), bool)
    for y, x in np.ndindex(cells.shape):
        cells[y, x] = mask[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].sum() > 8
    return cells


def ranking_scores(logits, cells, labels):
    """One an instance; ``logits`` is ``[num_things, h, w]``."""
    maps = category_map(cells, labels, len(logits))
    scores = []
    for mask, label in zip(cells, labels, strict=True):
        places = [(y, x) for y, x in np.argwhere(mask) if maps[:, y, x].sum() >= 2]
        found = [_softmax(logits[:, y, x])[label] for y, x in places]
        scores.append(sum(found) / len(found) if found else 0.0)
    return scores


def ranking_loss(logits, maps, semantic):
    """Mean over the cells that count; ``[B, C, h, w]`` twice and ``[B, 4 h, 4 w]``."""
    losses = []
    for b, y, x in np.ndindex(len(logits), *logits.shape[2:]):
        visible = semantic[b, 4 * y + 2, 4 * x + 2]
        if maps[b, :, y, x].sum() >= 2 and visible < logits.shape[1]:
            losses.append(-math.log(_softmax(logits[b, :, y, x])[visible]))
    return sum(losses) / len(losses) if losses else 0.0


def _softmax(values):
    powers = [math.exp(v) for v in values]
    return [p / sum(powers) for p in powers]
