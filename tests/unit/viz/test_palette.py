"""Colours: the dataset's, with shades that tell neighbouring instances apart."""

import numpy as np
import pytest

from make.pictures import BLUE, CAT, CATEGORIES, DOG, GRASS, GREEN, RED
from refine.types import Segment
from refine.viz.palette import VOID_COLOR, look_up, segment_colors


def thing(k, category=CAT, **fields):
    return Segment(id=k, category=category, is_thing=category != GRASS, area=1, **fields)


def test_first_instances_stuff_and_void_have_their_own_colours():
    segments = [thing(5), thing(7, GRASS), thing(9, DOG)]
    colors = segment_colors(np.array([[0, 5, 7, 9]]), segments, CATEGORIES)
    assert colors == {0: VOID_COLOR, 5: RED, 7: GREEN, 9: BLUE}


@pytest.mark.parametrize("count", [2, 8])
def test_touching_instances_of_a_category_differ_in_any_order(count):
    rng = np.random.default_rng(count)
    # stripes: id k touches k - 1 and k + 1
    segment_map = np.repeat(np.arange(1, count + 1), 3)[None]
    for _ in range(20):
        segments = [thing(int(k)) for k in rng.permutation(count) + 1]
        colors = segment_colors(segment_map, segments, CATEGORIES)
        assert all(colors[k] != colors[k + 1] for k in range(1, count))


def test_a_neighbour_takes_its_shade_out_of_the_rotation():
    # the ninth instance comes round to the first one's shade, which it touches
    segment_map = np.array([[1, 9, 3], [4, 5, 6], [7, 8, 2]])
    colors = segment_colors(segment_map, [thing(k) for k in range(1, 10)], CATEGORIES)
    assert colors[9] != colors[1]


@pytest.mark.parametrize("step", [1, -1], ids=["crowd first", "crowd last"])
def test_an_instance_beside_a_crowd_differs_from_it(step):
    segments = [thing(1, is_crowd=True), thing(2)][::step]
    colors = segment_colors(np.array([[1, 2]]), segments, CATEGORIES)
    assert colors[1] == RED != colors[2]


def test_more_neighbours_than_shades_still_get_colours():
    segments = [thing(k) for k in range(1, 31)]
    segment_map = np.stack([np.arange(2, 31), np.ones(29, int)])
    assert len(segment_colors(segment_map, segments, CATEGORIES)) == 31


def test_unknown_ids_get_the_default():
    found = look_up(np.array([[0, 3], [16_000_000, 4]]), {3: 5, 16_000_000: 6}, -1)
    assert found.tolist() == [[-1, 5], [6, -1]]
