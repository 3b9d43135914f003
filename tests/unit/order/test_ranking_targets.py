"""True outlines on cells."""

import numpy as np
import pytest
import torch

from make.batches import fake_sample
from oracles.ranking import category_map, outline_cells
from refine.ops.outlines import decode_mask, encode_mask
from refine.order.ranking_targets import compute_category_maps, outlines_on_cells
from refine.types import MaskCrop

SIZE = (32, 64)  # pixels


def _full(crop):
    mask = np.zeros(SIZE, bool)
    mask[crop.slices] = crop.mask
    return mask


def test_a_cell_belongs_to_what_covers_most_of_it():
    rng = np.random.default_rng(0)
    for _ in range(40):
        h, w = rng.integers(1, 20, 2)
        y, x = int(rng.integers(0, SIZE[0] - h + 1)), int(rng.integers(0, SIZE[1] - w + 1))
        crop = MaskCrop(y, x, rng.random((h, w)) < 0.8)
        (cells,) = outlines_on_cells([encode_mask(crop)], (8, 16))
        assert np.array_equal(cells, outline_cells(_full(crop)))


@pytest.mark.parametrize(
    "mask", [np.ones((0, 0), bool), np.ones((1, 1), bool), np.zeros((3, 5), bool)], ids=str
)
def test_too_little_is_nothing(mask):
    assert not outlines_on_cells([encode_mask(MaskCrop(31, 63, mask[:1, :1]))], (8, 16)).any()


def test_outlines_that_share_no_pixel_share_no_cell():
    """Halves of a cell: with "at least half" the cell would seem contested."""
    left, right = MaskCrop(0, 0, np.ones((8, 6), bool)), MaskCrop(0, 6, np.ones((8, 6), bool))
    cells = outlines_on_cells([encode_mask(left), encode_mask(right)], (8, 16))
    assert not (cells[0] & cells[1]).any()
    assert cells.any(axis=(1, 2)).all()


def test_maps_of_a_batch():
    rng = np.random.default_rng(1)
    targets = [fake_sample(rng, num_instances=n, size=(64, 96)).target for n in (3, 0, 5)]
    maps = compute_category_maps(targets, num_things=3)
    assert maps.shape == (3, 3, 16, 24)
    assert maps.dtype == torch.bool
    assert not maps[1].any()
    for found, target in zip(maps, targets, strict=True):
        full = np.zeros((len(target.masks), 64, 96), bool)
        for mask, coded in zip(full, target.masks, strict=True):
            crop = decode_mask(coded)
            mask[crop.slices] = crop.mask
        cells = np.zeros((len(full), 16, 24), bool)
        for cell, mask in zip(cells, full, strict=True):
            cell[:] = outline_cells(mask)
        assert np.array_equal(found.numpy(), category_map(cells, target.labels.numpy(), 3))
