"""Components of dilated masks: what joins, what does not, and three ways to say the same."""

import numpy as np
import pytest
from scipy import ndimage

from refine.ops.components import label_dilated

VOID = 255


def canvas(size, *places):
    """Pixels of category 3 in a void map."""
    categories = np.full(size, VOID, np.uint8)
    for place in places:
        categories[place] = 3
    return categories


def num_components(categories, radius):
    return len(label_dilated(categories, radius)[1])


def is_same_partition(first, second):
    pairs = np.unique(np.stack([first.ravel(), second.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(first)) == len(np.unique(second))


@pytest.mark.parametrize("radius", [0, 1, 2, 7, 60])
def test_equals_dilation_followed_by_labelling(radius):
    rng = np.random.default_rng(radius)
    for density in (0.002, 0.02, 0.3, 1.0):
        categories = rng.integers(0, 3, (50, 70)).astype(np.uint8)
        categories[rng.random(categories.shape) >= density] = VOID
        labels, found = label_dilated(categories, radius)
        expected, count = np.zeros(categories.shape, int), 0
        for category in range(3):
            mask = categories == category
            dilated = ndimage.maximum_filter(mask, 2 * radius + 1, mode="constant")
            numbers, new = ndimage.label(dilated)
            expected[mask] = numbers[mask] + count
            count += new
        assert is_same_partition(labels, expected)
        assert len(found) == count
        assert np.array_equal(np.append(VOID, found)[labels], categories)


@pytest.mark.parametrize(("gap", "expected"), [(95, 1), (100, 1), (101, 2), (105, 2)])
@pytest.mark.parametrize("axis", [0, 1])
def test_fragments_with_a_gap_of_up_to_twice_the_radius_are_one(gap, expected, axis):
    # rows 30 to 39, then the gap; the other axis is long enough for strips to matter, too
    categories = np.full((260, 240), VOID, np.uint8)
    categories[30:40, 100:110] = categories[40 + gap : 50 + gap, 100:110] = 3
    assert num_components(np.moveaxis(categories, 0, axis).copy(), 50) == expected


@pytest.mark.parametrize("radius", [0, 1, 1000])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (4, 4)])
def test_one_colour(size, radius):
    for value, expected in ((0, 1), (254, 1), (VOID, 0)):
        labels, found = label_dilated(np.full(size, value, np.uint8), radius)
        assert (labels == expected).all()
        assert found.tolist() == [value] * expected
        assert found.dtype == np.uint8
        assert labels.dtype.kind == "u"


def test_more_components_than_fit_into_16_bits():
    categories = canvas((520, 520), (slice(None, None, 2), slice(None, None, 2)))
    labels, found = label_dilated(categories, 0)
    assert len(found) == 260**2 == labels.max()
