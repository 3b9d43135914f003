from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from make.dataset import on_image
from refine.data.transforms import (
    Geometry,
    draw_geometry,
    eval_geometry,
    transform_crop,
    transform_image,
    transform_map,
    transform_polygon,
)
from refine.ops.outlines import rasterize_polygons
from refine.options import ImageOptions
from refine.types import MaskCrop


def _geometry(source, resized, *, offset=(0, 0), size=None, flip=False):
    return Geometry(source=source, resized=resized, offset=offset, size=size or resized, flip=flip)


GEOMETRIES = [
    _geometry((40, 60), (40, 60)),
    _geometry((40, 60), (80, 120)),
    _geometry((40, 60), (67, 101), flip=True),
    _geometry((40, 60), (23, 31)),
    _geometry((40, 60), (67, 101), offset=(7, 30), size=(50, 40)),
    _geometry((40, 60), (67, 101), offset=(7, 30), size=(50, 40), flip=True),
    _geometry((40, 60), (1, 1)),
]


def _nearest(labels, geometry):
    """The obvious way: each pixel's centre, moved back."""
    sides = zip(geometry.size, geometry.offset, geometry.source, geometry.resized, strict=True)
    rows, columns = (
        [int((k + offset + 0.5) * old / new + 1e-9) for k in range(count)]
        for count, offset, old, new in sides
    )
    columns = columns[::-1] if geometry.flip else columns
    return np.array([[labels[r, c] for c in columns] for r in rows])


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_maps_take_the_pixel_under_each_centre(geometry):
    labels = np.random.default_rng(0).integers(0, 200, geometry.source).astype(np.uint8)
    result = transform_map(labels, geometry)
    assert result.dtype == np.uint8
    assert np.array_equal(result, _nearest(labels, geometry))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_crops_move_like_the_full_map(geometry):
    rng = np.random.default_rng(1)
    for _ in range(20):
        y, x = rng.integers(0, (30, 50)).tolist()
        mask = rng.random((rng.integers(1, 40 - y + 1), rng.integers(1, 60 - x + 1))) < 0.5
        before = MaskCrop(y=y, x=x, mask=mask)
        after = on_image(transform_crop(before, geometry), geometry.size)
        full = on_image(before, geometry.source)
        assert np.array_equal(after, transform_map(full, geometry))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_polygons_move_like_the_map(geometry):
    # a polygon on the borders of old pixels is as sharp as the map; only rounding may differ
    rectangle = np.array([[12, 9], [48, 9], [48, 31], [12, 31]], np.float64)
    labels = np.zeros(geometry.source, bool)
    labels[9:31, 12:48] = True
    from_map = transform_map(labels, geometry)
    moved = rasterize_polygons([transform_polygon(rectangle, geometry)], geometry.size)
    from_polygon = on_image(moved, geometry.size)
    differing = (from_polygon != from_map).sum()
    assert differing <= sum(from_map.shape) * 2
    for axis in (0, 1):
        edges = [np.flatnonzero(m.any(axis=axis)) for m in (from_map, from_polygon)]
        if all(len(e) for e in edges):
            assert np.abs(edges[0][[0, -1]] - edges[1][[0, -1]]).max() <= 1
    moved = transform_polygon(np.array([[6.0, 4.0]]), GEOMETRIES[5])
    assert moved == pytest.approx(np.array([[40 - (6 * 101 / 60 - 30), 4 * 67 / 40 - 7]]))


@pytest.mark.parametrize("resized", [(80, 120), (67, 101), (31, 47)])
def test_an_edge_lies_at_one_place_in_image_and_map(resized):
    for edge in range(5, 55, 7):
        labels = np.zeros((40, 60), np.uint8)
        labels[:, edge:] = 1
        image = np.repeat(labels[:, :, None] * 255, 3, axis=2)
        for flip in (False, True):
            geometry = _geometry((40, 60), resized, flip=flip)
            row = transform_image(image, geometry)[0, resized[0] // 2].numpy().astype(float) / 255
            # the integral of the ramp is where the edge lies, without rounding to pixels
            from_image, from_map = row.sum(), transform_map(labels, geometry)[0].sum()
            assert from_image == pytest.approx((60 - edge) * resized[1] / 60, abs=0.15)
            assert abs(from_map - from_image) <= 0.55


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_images_agree_with_pillow(geometry):
    image = np.random.default_rng(2).integers(0, 256, (*geometry.source, 3), dtype=np.uint8)
    height, width = geometry.resized
    resample = Image.Resampling.BILINEAR
    expected = np.asarray(Image.fromarray(image).resize((width, height), resample))
    (top, left), (height, width) = geometry.offset, geometry.size
    expected = expected[top : top + height, left : left + width]
    expected = expected[:, ::-1] if geometry.flip else expected
    for resize, most in (("torch", 1), ("pillow", 0)):
        pixels = transform_image(image, replace(geometry, resize=resize))
        result = pixels.permute(1, 2, 0).numpy()
        assert result.shape == expected.shape
        assert np.abs(result.astype(int) - expected).max() <= most


def test_images_that_cannot_be_written_are_taken_without_a_word(recwarn):
    image = np.asarray(Image.new("RGB", (60, 40), (1, 2, 3)))
    assert not image.flags.writeable
    torch.set_warn_always(True)  # it says this once otherwise
    try:
        pixels = transform_image(image, GEOMETRIES[0])
    finally:
        torch.set_warn_always(False)
    assert pixels.unique().tolist() == [1, 2, 3]
    assert not recwarn


@pytest.mark.parametrize(
    ("size", "options", "resized"),
    [
        ((480, 640), {"crop_px": [10, 10], "flip_prob": 1.0}, (800, 1067)),
        ((640, 480), {}, (1067, 800)),
        ((300, 640), {}, (625, 1333)),
        ((800, 1333), {}, (800, 1333)),
        ((1, 1), {}, (800, 800)),
        ((1, 5000), {}, (1, 1333)),
        ((128, 192), {"eval_short_side_px": 128, "max_long_side_px": 192}, (128, 192)),
        ((100, 200), {"eval_max_long_side_px": 80}, (40, 80)),  # its own limit
        ((100, 200), {"max_long_side_px": 160}, (80, 160)),
    ],
)
def test_evaluation_only_resizes(size, options, resized):
    assert eval_geometry(size, ImageOptions(**options)) == _geometry(size, resized)


def test_drawn_geometries_stay_in_the_image_and_use_every_choice():
    options = ImageOptions(train_short_sides_px=[32, 48], max_long_side_px=100, crop_px=[40, 50])
    rng = np.random.default_rng(0)
    drawn = [draw_geometry((30, 60), options, rng) for _ in range(300)]
    assert {g.resized for g in drawn} == {(32, 64), (48, 96)}
    assert {g.size for g in drawn} == {(32, 50), (40, 50)}
    for g in drawn:
        assert all(0 <= o <= r - s for o, r, s in zip(g.offset, g.resized, g.size, strict=True))
    assert {g.offset[0] for g in drawn if g.resized == (48, 96)} == set(range(9))
    assert {g.offset[1] for g in drawn if g.resized == (32, 64)} == set(range(15))
    assert 100 < sum(g.flip for g in drawn) < 200
    for probability in (0.0, 1.0):
        certain = ImageOptions(flip_prob=probability)
        flips = {draw_geometry((30, 60), certain, rng).flip for _ in range(50)}
        assert flips == {probability == 1}
