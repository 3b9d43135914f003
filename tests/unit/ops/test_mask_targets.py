"""Targets of masks are exact area averages, for any mask of many and any box."""

import numpy as np
import pytest
import torch

from oracles.masks import cell_averages
from refine.ops.mask_targets import roi_mask_targets, sum_areas
from refine.ops.outlines import encode_mask
from refine.types import MaskCrop

SIZE = (23, 31)


def targets_of(crops, boxes, side, chosen=None):
    areas = sum_areas([encode_mask(crop) for crop in crops], torch.device("cpu"))
    chosen = torch.arange(len(crops)) if chosen is None else torch.tensor(chosen, dtype=torch.int64)
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return roi_mask_targets(areas, chosen, boxes, side)


@pytest.mark.parametrize("side", [1, 4, 14])
def test_targets_are_exact_area_averages(side):
    rng = np.random.default_rng(side)
    crops = [
        MaskCrop(int(y), int(x), rng.random((h, w)) < 0.6)
        for y, x, h, w in rng.integers([0, 0, 1, 1], [15, 20, 9, 12], (6, 4))
    ]
    chosen = rng.integers(0, 6, 20).tolist()
    x, y = (np.sort(rng.uniform(-4, n + 4, (len(chosen), 2))) for n in SIZE[::-1])
    boxes = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)
    targets = targets_of(crops, boxes, side, chosen)
    assert (targets.dtype, targets.shape) == (torch.float32, (len(chosen), side, side))
    for target, box, k in zip(targets, boxes.astype(np.float32), chosen, strict=True):
        full = np.zeros(SIZE, bool)
        full[crops[k].slices] |= crops[k].mask
        np.testing.assert_allclose(target, cell_averages(full, box, side), atol=2e-6)
    assert targets.max() > 0.1


def test_small_cells_of_a_large_mask_are_as_exact():
    solid = MaskCrop(3, 5, np.ones((1500, 2000), bool))
    (target,) = targets_of([solid], [[2003.5, 1501.5, 2005.5, 1503.5]], 4)
    assert target.tolist() == [[1, 1, 1, 0]] * 3 + [[0, 0, 0, 0]]


def test_targets_are_zero_where_nothing_meets():
    solid = MaskCrop(4, 4, np.ones((6, 6), bool))
    empty = MaskCrop(4, 4, np.zeros((0, 0), bool))
    far, flat, turned = [12, 12, 20, 20], [4, 4, 4, 9], [9, 9, 5, 5]
    boxes = [far, flat, turned, [0, 0, np.inf, 4], [np.nan, 0, 9, 9], [2, 2, 12, 12]]
    assert not targets_of([solid] * 5 + [empty], boxes, 7).any()
    assert targets_of([], [], 7).shape == targets_of([solid], [], 7, []).shape == (0, 7, 7)
