"""Pixels that masks share."""

import numpy as np
import pytest

from oracles import overlaps as oracle
from refine.fusion.overlaps import cross_ious, pair_overlaps, shared_window
from refine.types import MaskCrop


def random_crops(rng, count, size):
    """Crops anywhere in the image, some of them empty or blank."""
    crops = []
    for _ in range(count):
        y, x = (int(rng.integers(0, n)) for n in size)
        height, width = int(rng.integers(0, size[0] - y + 1)), int(rng.integers(0, size[1] - x + 1))
        crops.append(MaskCrop(y, x, rng.random((height, width)) < rng.choice([0, 0.2, 0.9, 1])))
    return crops


def as_dict(found):
    return dict(zip(map(tuple, found.pairs.tolist()), found.intersections.tolist(), strict=True))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (12, 15)])
def test_equal_to_full_canvases(size):
    rng = np.random.default_rng(size)
    total = 0
    for _ in range(150):
        crops = random_crops(rng, int(rng.integers(0, 8)), size)
        masks = [oracle.full_mask(crop, size) for crop in crops]
        found = pair_overlaps(crops)
        expected = oracle.pair_overlaps(masks)
        assert as_dict(found) == expected
        assert found.pairs.tolist() == sorted(found.pairs.tolist())
        assert found.areas.tolist() == [m.sum() for m in masks]
        shares = [(n / masks[i].sum(), n / masks[j].sum()) for (i, j), n in expected.items()]
        assert found.shares.tolist() == [list(s) for s in shares]
        total += len(expected)
    assert total > 15


def test_between_two_lists():
    rng = np.random.default_rng(3)
    for _ in range(40):
        first, second = (random_crops(rng, int(rng.integers(0, 5)), (9, 11)) for _ in range(2))
        found = cross_ious(first, second)
        assert found.shape == (len(first), len(second))
        for i, a in enumerate(first):
            for j, b in enumerate(second):
                a_full, b_full = (oracle.full_mask(crop, (9, 11)) for crop in (a, b))
                union = (a_full | b_full).sum()
                assert found[i, j] == ((a_full & b_full).sum() / union if union else 0)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_masks_for_a_pair(count):
    found = pair_overlaps([MaskCrop(2, 3, np.ones((4, 5), bool))] * count)
    assert found.areas.tolist() == [20] * count
    assert found.pairs.shape == (0, 2)
    assert found.intersections.shape == (0,)
    assert found.shares.shape == (0, 2)


def test_the_window_is_where_both_are():
    a, b = MaskCrop(1, 2, np.ones((5, 5), bool)), MaskCrop(4, 0, np.eye(6, dtype=bool))
    rows, columns, both = shared_window(a, b)
    assert (rows, columns) == (slice(4, 6), slice(2, 6))
    assert np.array_equal(both, np.eye(6, dtype=bool)[:2, 2:])
