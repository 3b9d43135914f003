import numpy as np
import pytest

from refine.data.rows import find_runs
from refine.errors import RefineError
from refine.types import Segment


def _segments(*ids):
    return [Segment(id=i, category=0, is_thing=True, area=1) for i in ids]


def _random_map(rng, ids, shape):
    blocks = rng.choice([0, *ids], size=(shape[0] // 3 + 1, shape[1] // 4 + 1))
    ids_map = blocks.repeat(3, 0).repeat(4, 1)[: shape[0], : shape[1]].astype(np.int32)
    ids_map.flat[: len(ids)] = ids
    return ids_map


def test_painting_and_tight_crops_equal_looking_up_every_pixel():
    rng = np.random.default_rng(0)
    for _ in range(50):
        ids = rng.choice(2**24 - 1, rng.integers(1, 9), replace=False) + 1
        ids_map = _random_map(rng, ids, tuple(rng.integers(4, 30, 2)))
        runs = find_runs(ids_map, _segments(*ids.tolist()), source="m.png")
        values = rng.integers(0, 255, len(ids) + 1).astype(np.uint8)
        table = {0: values[0], **dict(zip(ids.tolist(), values[1:], strict=True))}
        painted = runs.paint(values)
        assert painted.dtype == np.uint8
        assert painted.tolist() == [[table[i] for i in row] for row in ids_map.tolist()]
        places = rng.permutation(len(ids)) + 1
        for place, crop in zip(places, runs.find_crops(places.tolist()), strict=True):
            mask = ids_map == ids[place - 1]
            assert np.array_equal(mask[crop.slices], crop.mask)
            assert crop.mask.sum() == mask.sum()
            assert crop.mask.any(axis=0)[[0, -1]].all()
            assert crop.mask.any(axis=1)[[0, -1]].all()


def test_one_segment_everywhere_or_none():
    for shape in [(1, 1), (1, 9), (9, 1)]:
        runs = find_runs(np.full(shape, 5, np.int32), _segments(5), source="m.png")
        (crop,) = runs.find_crops([1])
        assert crop.mask.shape == shape
        assert crop.mask.all()
    runs = find_runs(np.zeros((3, 4), np.int32), [], source="m.png")
    assert runs.paint(np.array([255], np.uint8)).tolist() == [[255] * 4] * 3
    assert runs.find_crops([]) == []


@pytest.mark.parametrize(
    ("pixels", "listed", "expected"),
    [
        *(([5, i, 5], [5], f"{i} is not in the JSON") for i in (1, 6, 2**24 - 1)),
        ([5, 5], [5, 9], "9 of the JSON has no pixel"),
        ([0], [9], "9 of the JSON has no pixel"),
    ],
)
def test_ids_that_the_json_or_the_png_lacks(pixels, listed, expected):
    with pytest.raises(RefineError, match=rf"^m.png: segment id {expected}"):
        find_runs(np.array([pixels], np.int32), _segments(*listed), source="m.png")
