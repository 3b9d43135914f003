import numpy as np
import pytest

from refine.coco_format.segment_runs import find_runs
from refine.errors import Findings, RefineError
from refine.types import Segment


def _segments(ids_map, *ids):
    """Segments with these ids, which state the areas that a plain count gives."""
    return [
        Segment(id=i, category=0, is_thing=True, area=sum(p == i for p in ids_map.ravel().tolist()))
        for i in ids
    ]


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
        runs = find_runs(ids_map, _segments(ids_map, *ids.tolist()), source="m.png")
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
        ids_map = np.full(shape, 5, np.int32)
        runs = find_runs(ids_map, _segments(ids_map, 5), source="m.png")
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
        # blue is written first: 5 * 65536, and 2 + 3 * 256 + 1 * 65536
        ([5 << 16, 0], [5], "327680 is not in the JSON.*save the PNG as RGB, not BGR"),
        ([66306, 66306], [0x020301], "66306 is not in the JSON.*save the PNG as RGB, not BGR"),
    ],
)
def test_ids_that_the_json_or_the_png_lacks(pixels, listed, expected):
    ids_map = np.array([pixels], np.int32)
    segments = _segments(ids_map, *listed)
    with pytest.raises(RefineError, match=rf"^m.png: segment id {expected}"):
        find_runs(ids_map, segments, source="m.png")


@pytest.mark.parametrize("area", [1, 3, 5, 999])
def test_a_stated_area_is_the_number_of_pixels(area):
    segment = Segment(id=7, category=0, is_thing=True, area=area)
    with pytest.raises(RefineError, match=rf"^m.png: segment id 7: .*'area' {area}.* 4 pixels;"):
        find_runs(np.array([[7, 7, 0], [7, 7, 0]], np.int32), [segment], source="m.png")


def test_all_contradictions_are_collected():
    segments = [Segment(id=i, category=0, is_thing=True, area=3) for i in (1, 2, 3)]
    findings = Findings()
    runs = find_runs(
        np.array([[1, 1, 9, 8, 3]], np.int32), segments, source="m.png", report=findings
    )
    assert findings.counts == {
        "a segment id in the PNG only": 2,
        "a segment id in the JSON only": 1,
        "another area than pixels": 2,
    }
    assert runs.paint(np.arange(4)).tolist() == [[1, 1, 0, 0, 3]]
