import numpy as np
import pytest
from pycocotools import mask as coco_mask

from refine.ops.outlines import (
    compress_runs,
    decode_mask,
    encode_mask,
    encode_segments,
    rasterize_polygons,
    tight_crop,
)
from refine.types import MaskCrop


def _full(crop, size):
    full = np.zeros(size, bool)
    if crop is not None:
        full[crop.slices] = crop.mask
    return full


def _rasterize_whole_image(polygons, size):
    flat = [np.asarray(p, np.float64).ravel().tolist() for p in polygons]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, *size))).astype(bool)


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (3, 40), (0, 0)])
@pytest.mark.parametrize("density", [0.0, 0.5, 1.0])
def test_coding_gives_the_mask_back(shape, density):
    mask = np.random.default_rng(0).random(shape) < density
    coded = encode_mask(MaskCrop(y=4, x=9, mask=mask))
    assert isinstance(coded.counts, bytes)
    crop = decode_mask(coded)
    assert (crop.y, crop.x) == (4, 9)
    assert crop.mask.dtype == bool
    assert np.array_equal(crop.mask, mask)


def test_views_are_coded_like_copies():
    mask = np.random.default_rng(0).random((20, 30)) < 0.5
    view = mask[3:17:2, ::-1]
    assert encode_mask(MaskCrop(0, 0, view)) == encode_mask(MaskCrop(0, 0, view.copy()))


def test_tight_crop():
    mask = np.zeros((6, 9), bool)
    mask[2, 3] = mask[4, 7] = True
    crop = tight_crop(mask, y=10, x=20)
    assert (crop.y, crop.x, crop.mask.shape) == (12, 23, (3, 5))
    assert crop.mask.sum() == 2
    assert crop.mask[0, 0]
    assert crop.mask[2, 4]


@pytest.mark.parametrize("decimals", [0, 1, 2, 9])
def test_polygons_equal_cocos_rule_on_the_whole_image(decimals):
    rng = np.random.default_rng(decimals)
    for _ in range(300):
        size = tuple(rng.integers(1, 60, 2).tolist())
        polygons = [
            rng.uniform(-20, 80, (rng.integers(3, 9), 2)).round(decimals)
            for _ in range(rng.integers(1, 4))
        ]
        crop = rasterize_polygons(polygons, size)
        assert np.array_equal(_full(crop, size), _rasterize_whole_image(polygons, size))
        if crop is not None:
            assert crop.mask.any(axis=1)[[0, -1]].all()
            assert crop.mask.any(axis=0)[[0, -1]].all()


@pytest.mark.parametrize(
    "polygon",
    [
        [[-9, -9], [-5, -9], [-5, -5]],
        [[20, 3], [25, 3], [25, 8]],
        [[3, 20], [8, 20], [8, 25]],
        [[5, 5], [5, 5], [5, 5]],
    ],
)
def test_polygons_without_a_pixel_in_the_image(polygon):
    assert rasterize_polygons([np.array(polygon, np.float64)], (10, 10)) is None
    assert rasterize_polygons([], (10, 10)) is None


def test_run_lengths_of_both_kinds_agree():
    rng = np.random.default_rng(0)
    for k in range(80):
        height, width = rng.integers(1, 200, 2).tolist()
        # blocks give long runs, noise short ones: one and several characters a number
        side = 1 + 30 * (k % 2)
        mask = rng.random((height // side + 1, width // side + 1)) < rng.random()
        mask = mask.repeat(side, 0).repeat(side, 1)[:height, :width]
        packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
        flat = mask.ravel(order="F").astype(int)
        bounds = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
        plain = ([0] if flat[0] else []) + np.diff(bounds).tolist()
        from_text = compress_runs(packed.decode(), height=height, width=width)
        from_numbers = compress_runs(plain, height=height, width=width)
        assert from_text == from_numbers
        assert np.array_equal(decode_mask(from_text).mask, mask)


@pytest.mark.parametrize(
    "counts",
    ["", "abc", "zzzz", "\x00\x01", "é", "d0d0", "PPPPPPP0", [], [21], [-1, 21], [1.0, 19], ["20"]],
)
def test_run_lengths_that_do_not_fit_are_refused(counts):
    with pytest.raises(ValueError, match=r"run|ascii"):
        compress_runs(counts, height=4, width=5)


def test_segments_of_a_map_are_coded_as_coco_codes_each_mask():
    rng = np.random.default_rng(0)
    for size in ((1, 1), (1, 9), (9, 1), (12, 17), (40, 30)):
        segment_map = np.kron(rng.integers(0, 5, size), np.ones((3, 2), int)).astype(np.int32)
        ids = sorted(set(segment_map.ravel().tolist()))
        for k, coded in zip(ids, encode_segments(segment_map, ids), strict=True):
            expected = coco_mask.encode(np.asfortranarray(segment_map == k, np.uint8))
            assert [coded.height, coded.width] == expected["size"]
            assert np.array_equal(coco_mask.decode(expected), segment_map == k)
            again = {"size": expected["size"], "counts": coded.counts}
            assert np.array_equal(coco_mask.decode(again), segment_map == k)
