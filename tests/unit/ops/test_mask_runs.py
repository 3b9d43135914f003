"""Runs of many masks at once, against pycocotools' own decoding of each."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from refine.ops.mask_runs import paint_runs, unpack_masks
from refine.types import CodedMask


def blobs(rng, size):
    """A mask of blocks or noise, perhaps empty or full."""
    side, density = rng.integers(1, 20), rng.choice([0, 0.1, 0.5, 0.9, 1])
    cells = rng.random((size[0] // side + 1, size[1] // side + 1)) < density
    return cells.repeat(side, 0).repeat(side, 1)[: size[0], : size[1]]


def code(mask):
    packed = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return CodedMask(*mask.shape, packed["counts"])


@pytest.mark.parametrize("seed", range(40))
def test_crops_are_tight_and_hold_the_masks(seed):
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 70, 2).tolist())
    masks = [blobs(rng, size) for _ in range(rng.integers(0, 7))]
    crops = unpack_masks([code(mask) for mask in masks]).crops(size[0])
    for mask, crop in zip(masks, crops, strict=True):
        full = np.zeros(size, bool)
        full[crop.slices] = crop.mask
        assert np.array_equal(full, mask)
        assert crop.mask.flags.f_contiguous  # a view of more would take the memory of all columns
        if mask.any():
            assert all(edge.any() for edge in (*crop.mask[[0, -1]], *crop.mask.T[[0, -1]]))
        else:
            assert crop.mask.shape == (0, 0)


def test_masks_of_images_of_different_sizes_and_runs_of_no_pixel():
    masks = [np.eye(3, dtype=bool), np.ones((2, 9), bool), np.zeros((5, 1), bool)]
    runs = unpack_masks([code(mask) for mask in masks])
    assert runs.starts.tolist() == [0, 4, 8, 0]
    assert runs.stops.tolist() == [1, 5, 9, 18]
    assert runs.offsets.tolist() == [0, 3, 4, 4]
    split = coco_mask.frPyObjects({"size": [2, 4], "counts": [1, 2, 0, 3, 2, 0, 0]}, 2, 4)
    runs = unpack_masks([CodedMask(2, 4, split["counts"])])
    assert (runs.starts.tolist(), runs.stops.tolist()) == ([1, 3], [3, 6])
    (crop,) = runs.crops(2)
    assert crop.mask.tolist() == [[False, True, True], [True, True, True]]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_wrong_mask_among_others(place):
    masks = [code(np.eye(4, dtype=bool)) for _ in range(3)]
    for counts in (b"", b"4", masks[0].counts[:-1], masks[0].counts + b"1", b"0P", b"\xff"):
        masks[place] = CodedMask(4, 4, counts)
        with pytest.raises(ValueError, match="run"):
            unpack_masks(masks)


def test_painting():
    starts, stops = np.array([0, 3, 4]), np.array([2, 4, 6])
    painted = paint_runs(starts, stops, np.array([7, 8, 9], np.uint8), (4, 2), background=255)
    assert painted.tolist() == [[7, 7], [255, 8], [9, 9], [255, 255]]
    assert painted.dtype == np.uint8
    nothing = np.zeros(0, np.int64)
    assert paint_runs(nothing, nothing, np.zeros(0, bool), (1, 2), background=0).tolist() == [
        [0, 0]
    ]
