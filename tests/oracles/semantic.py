"""Semantic logits sampled pixel by pixel."""

import numpy as np


def sample_logits(logits, image_size, original_size):
    """``[H, W, C]`` float64: bilinear values at every original pixel centre, edges repeated."""
    logits = np.asarray(logits, np.float64)
    num_categories, height, width = logits.shape
    values = np.zeros((*original_size, num_categories))
    for row, column in np.ndindex(*original_size):
        y = (row + 0.5) * image_size[0] / original_size[0] / 4 - 0.5
        x = (column + 0.5) * image_size[1] / original_size[1] / 4 - 0.5
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
        for cell_y in {int(y), min(int(y) + 1, height - 1)}:
            for cell_x in {int(x), min(int(x) + 1, width - 1)}:
                weight = (1 - abs(y - cell_y)) * (1 - abs(x - cell_x))
                values[row, column] += weight * logits[:, cell_y, cell_x]
    return values
