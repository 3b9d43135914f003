"""Panels keep their pixels, whatever is put around them; files give back what was written."""

import io

import numpy as np
import pytest
from PIL import Image

from make.errors import refused
from refine.viz import panels
from refine.viz.image_files import encode_jpeg, read_image, write_png

ONE, TWO = np.full((8, 200, 3), 1, np.uint8), np.full((8, 200, 3), 2, np.uint8)


@pytest.mark.parametrize(
    ("size", "limit", "fit"),
    [
        ((128, 192), 640, (256, 384)), ((50, 384), 640, (50, 384)), ((50, 383), 4096, (100, 766)),
        ((960, 1280), 640, (480, 640)), ((1280, 1), 640, (640, 1)), ((300, 100), 640, (600, 200)),
        ((1, 1), 4096, (384, 384)), ((4096, 2), 4096, (4096, 2)), ((1365, 2), 4096, (4095, 6)),
    ],
    ids=str,
)  # fmt: skip
def test_panels_reach_a_readable_width_within_their_limit(size, limit, fit):
    assert panels.fit_size(*size, max_side_px=limit) == fit


def test_maps_are_resized_to_the_nearest_id_and_images_to_the_same_size():
    segment_map = np.array([[1, 2], [3, 4]])
    enlarged = panels.resize_map(segment_map, (6, 8))
    assert np.array_equal(enlarged, np.kron(segment_map, np.ones((3, 4), int)))
    assert panels.resize_map(np.arange(9).reshape(3, 3), (1, 1)).tolist() == [[4]]
    assert panels.resize_image(ONE, (12, 15)).shape == (12, 15, 3)


def test_a_caption_stands_above_the_panel():
    captioned = panels.add_caption(ONE, {"red": (255, 0, 0), "white": panels.WHITE})
    band = captioned[:-8].astype(int)
    assert np.array_equal(captioned[-8:], ONE)
    reddish = band[..., 0] > band[..., 1]
    assert reddish[:, :40].any()
    assert not reddish[:, 60:].any()
    assert (band[:, 40:].min(axis=2) > 100).any()


@pytest.mark.parametrize("axis", [0, 1])
def test_panels_are_joined_with_a_gap(axis):
    joined = panels.join_panels([ONE, TWO], axis=axis)
    size = ONE.shape[axis]
    assert joined.shape[axis] > 2 * size
    assert np.array_equal(joined.take(range(size), axis), ONE)
    assert np.array_equal(joined.take(range(-size, 0), axis), TWO)


def test_pictures_of_one_list_are_of_one_size():
    small, wide = np.ones((2, 3, 3), np.uint8), np.ones((1, 5, 3), np.uint8)
    padded = panels.pad_to_one_size([small, wide])
    assert [p.shape for p in padded] == [(2, 5, 3)] * 2
    assert np.array_equal(padded[0][:, :3], small)
    assert padded[0][:, 3:].sum() == padded[1][1:].sum() == 0


@pytest.mark.parametrize(
    ("size", "expected"), [((40, 100), (20, 50)), ((30, 50), (30, 50)), ((1, 500), (1, 50))]
)
def test_wide_images_shrink_and_keep_their_shape(size, expected):
    image = np.full((*size, 3), (200, 30, 60), np.uint8)
    decoded = np.asarray(Image.open(io.BytesIO(encode_jpeg(image, max_width_px=50))))
    assert decoded.shape == (*expected, 3)
    assert np.abs(decoded.astype(int) - (200, 30, 60)).max() <= 4


def test_a_file_is_read_back_and_a_damaged_or_missing_one_named(tmp_path):
    write_png(tmp_path / "new" / "a.png", ONE)
    assert np.array_equal(read_image(tmp_path / "new" / "a.png"), ONE)
    (tmp_path / "b.png").write_bytes(b"no picture")
    for name in ("b.png", "c.png"):
        with refused(f"{name}: cannot be read as an image"):
            read_image(tmp_path / name)
