"""Pasting equals grid_sample on the full image."""

import numpy as np
import pytest

from oracles.masks import paste_values
from refine.ops.masks import paste_masks

SIZE = (23, 31)


def on_image(crop, size=SIZE):
    full = np.zeros(size, bool)
    full[crop.slices] |= crop.mask
    return full


def as_boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def random_boxes(rng, count, *, reach=4.0):
    """Boxes that start and end up to ``reach`` pixels outside the image."""
    height, width = SIZE
    x = np.sort(rng.uniform(-reach, width + reach, (count, 2)))
    y = np.sort(rng.uniform(-reach, height + reach, (count, 2)))
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1).astype(np.float32)


def box_pixels(box, size=SIZE):
    """The pixels that a box touches, on the full image."""
    rows, columns = np.arange(size[0])[:, None], np.arange(size[1])
    return (columns + 1 > box[0]) & (columns < box[2]) & (rows + 1 > box[1]) & (rows < box[3])


@pytest.mark.parametrize("threshold", [0.5, 0.7])
@pytest.mark.parametrize("side", [1, 2, 7, 28])
def test_pasting_equals_grid_sample_on_the_full_image(side, threshold):
    rng = np.random.default_rng(side)
    boxes = random_boxes(rng, 40)
    masks = rng.random((40, side, side), dtype=np.float32)
    crops = paste_masks(masks, boxes, SIZE, threshold=threshold)
    for crop, values in zip(crops, paste_values(masks, boxes, SIZE), strict=True):
        clear = np.abs(values - threshold) > 1e-5
        assert np.array_equal(on_image(crop)[clear], (values >= threshold)[clear])
    assert sum(crop.mask.sum() for crop in crops) > 100


def test_below_one_half_only_the_halo_outside_the_box_is_cut():
    rng = np.random.default_rng(0)
    boxes = random_boxes(rng, 40)
    masks = rng.random((40, 3, 3), dtype=np.float32)
    halo = 0
    crops = paste_masks(masks, boxes, SIZE, threshold=0.2)
    for crop, values, box in zip(crops, paste_values(masks, boxes, SIZE), boxes, strict=True):
        clear = np.abs(values - 0.2) > 1e-5
        inside = box_pixels(box)
        assert np.array_equal(on_image(crop)[clear], ((values >= 0.2) & inside)[clear])
        halo += ((values >= 0.2) & ~inside).sum()
    assert halo > 0


@pytest.mark.parametrize(
    "box",
    [
        [5, 5, 5, 9], [5, 5, 9, 5], [9, 9, 5, 5], [-9, 2, -3, 8], [40, 2, 50, 8], [2, 30, 8, 40],
        [0, -5, 31, 0],
    ],
)  # fmt: skip
def test_boxes_without_area_or_outside_the_image_give_empty_crops(box):
    (crop,) = paste_masks(np.ones((1, 4, 4), np.float32), as_boxes(box), SIZE, threshold=0.5)
    assert crop.mask.size == 0
    assert on_image(crop).sum() == 0


def test_a_box_thinner_than_a_pixel_covers_the_pixel_whose_centre_it_holds():
    boxes = as_boxes([3.4, 2, 3.6, 6], [3.1, 2, 3.3, 6])
    holds, misses = paste_masks(np.ones((2, 4, 4), np.float32), boxes, SIZE, threshold=0.5)
    assert holds.mask.all()
    assert holds.mask.shape == (4, 1)
    assert not misses.mask.any()


def test_boxes_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        paste_masks(
            np.ones((1, 4, 4), np.float32), as_boxes([0, 0, np.nan, 4]), SIZE, threshold=0.5
        )
