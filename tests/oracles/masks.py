"""Masks pasted on the full image with torch's grid_sample; area averages by a double loop."""

import numpy as np
import torch
import torch.nn.functional as F


def paste_values(probabilities, boxes, size):
    """``[N, H, W]`` float: every mask's value at every pixel centre of the image."""
    height, width = size
    pasted = np.zeros((len(boxes), height, width), np.float32)
    for n, (x0, y0, x1, y1) in enumerate(np.asarray(boxes, np.float64)):
        if x1 <= x0 or y1 <= y0:
            continue
        x = (torch.arange(width) + 0.5 - x0) / (x1 - x0) * 2 - 1
        y = (torch.arange(height) + 0.5 - y0) / (y1 - y0) * 2 - 1
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]
        mask = torch.from_numpy(probabilities[n]).double()[None, None]
        pasted[n] = F.grid_sample(mask, grid.double(), align_corners=False)[0, 0].numpy()
    return pasted


def cell_averages(mask, box, side):
    """``[side, side]``: covered share of each cell; ``mask`` is the full ``[H, W]`` image."""
    x0, y0, x1, y1 = (float(v) for v in box)
    averages = np.zeros((side, side))
    if x1 <= x0 or y1 <= y0:
        return averages
    cell_height, cell_width = (y1 - y0) / side, (x1 - x0) / side
    for i, j in np.ndindex(side, side):
        top, left = y0 + i * cell_height, x0 + j * cell_width
        for row, column in np.argwhere(mask):
            tall = min(top + cell_height, row + 1) - max(top, row)
            wide = min(left + cell_width, column + 1) - max(left, column)
            averages[i, j] += max(tall, 0) * max(wide, 0)
    return averages / (cell_height * cell_width)
