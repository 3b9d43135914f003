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
    height, width = mask.shape[0] // 4, mask.shape[1] // 4
    cells = np.zeros((height, width), bool)
    for y in range(height):
        for x in range(width):
            cells[y, x] = mask[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].sum() > 8
    return cells


def ranking_scores(logits, cells, labels):
    """One an instance; ``logits`` is ``[num_things, h, w]``."""
    maps = category_map(cells, labels, len(logits))
    scores = []
    for mask, label in zip(cells, labels, strict=True):
        found = [
            _softmax(logits[:, y, x])[label]
            for y, x in np.argwhere(mask)
            if maps[:, y, x].sum() >= 2
        ]
        scores.append(sum(found) / len(found) if found else 0.0)
    return scores


def ranking_loss(logits, maps, semantic):
    """Mean over the cells that count; ``[B, C, h, w]`` twice and ``[B, 4 h, 4 w]``."""
    losses = []
    batch, num_things, height, width = logits.shape
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                visible = semantic[b, 4 * y + 2, 4 * x + 2]
                if maps[b, :, y, x].sum() >= 2 and visible < num_things:
                    losses.append(-math.log(_softmax(logits[b, :, y, x])[visible]))
    return sum(losses) / len(losses) if losses else 0.0


def _softmax(values):
    powers = [math.exp(v) for v in values]
    return [p / sum(powers) for p in powers]
