"""Panels keep their pixels, whatever is put around them."""

import numpy as np
import pytest

from refine.viz.panels import (
    WHITE,
    add_caption,
    blend,
    enlarge_image,
    enlarge_map,
    find_enlargement,
    join_panels,
)


@pytest.mark.parametrize(
    ("size", "factor"),
    [
        ((128, 192), 2),
        ((1, 1), 384),
        ((50, 384), 1),
        ((50, 383), 2),
        ((4096, 2), 1),
        ((1365, 2), 3),
    ],
)
def test_panels_reach_a_readable_width_but_no_absurd_height(size, factor):
    assert find_enlargement(*size) == factor


def test_maps_grow_by_blocks_and_images_to_the_same_size():
    segment_map = np.array([[1, 2], [3, 4]])
    assert enlarge_map(segment_map, 3)[::3, ::3].tolist() == segment_map.tolist()
    assert enlarge_map(segment_map, 3)[2::3, 2::3].tolist() == segment_map.tolist()
    assert enlarge_image(np.full((4, 5, 3), 77, np.uint8), 3).shape == (12, 15, 3)


def test_opacity_is_one_number_or_one_a_pixel():
    below, above = np.zeros((1, 2, 3)), np.full((1, 2, 3), 200)
    assert blend(below, above, 0.5).tolist() == [[[100] * 3] * 2]
    assert blend(below, above, np.array([[[0.0], [1.0]]])).tolist() == [[[0] * 3, [200] * 3]]


def test_a_caption_stands_above_the_panel():
    panel = np.full((10, 200, 3), 9, np.uint8)
    captioned = add_caption(panel, {"red": (255, 0, 0), "white": WHITE})
    band = captioned[:-10].astype(int)
    assert np.array_equal(captioned[-10:], panel)
    reddish = band[..., 0] > band[..., 1]
    assert reddish[:, :40].any()
    assert not reddish[:, 60:].any()
    assert (band[:, 40:].min(axis=2) > 100).any()


@pytest.mark.parametrize("axis", [0, 1])
def test_panels_are_joined_with_a_gap(axis):
    one, two = np.full((8, 8, 3), 1, np.uint8), np.full((8, 8, 3), 2, np.uint8)
    joined = join_panels([one, two], axis=axis)
    assert np.array_equal(joined.take(range(8), axis), one)
    assert np.array_equal(joined.take(range(-8, 0), axis), two)
    assert joined.shape[axis] > 16
    assert (joined == 0).any()
    assert np.array_equal(join_panels([one], axis=axis), one)
