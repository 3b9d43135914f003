"""Colours: the dataset's, with shades that tell neighbouring instances apart."""

import numpy as np
import pytest

from refine.categories import Category, CategoryTable
from refine.types import Segment
from refine.viz.palette import VOID_COLOR, paint, segment_colors

CATEGORIES = CategoryTable(
    [
        Category(dataset_id=1, name="cat", is_thing=True, color=(200, 40, 60)),
        Category(dataset_id=2, name="dog", is_thing=True, color=(0, 255, 0)),
        Category(dataset_id=3, name="grass", is_thing=False, color=(10, 120, 30)),
    ]
)
CAT, DOG, GRASS = range(3)


def thing(k, category=CAT, **fields):
    return Segment(id=k, category=category, is_thing=category != GRASS, area=1, **fields)


def test_first_instance_stuff_and_void_have_their_own_colours():
    colors = segment_colors(np.array([[0, 5, 7]]), [thing(5), thing(7, GRASS)], CATEGORIES)
    assert colors == {0: VOID_COLOR, 5: (200, 40, 60), 7: (10, 120, 30)}


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
    segment_map = np.arange(1, 10).reshape(3, 3)
    segment_map[2, 2], segment_map[0, 1] = segment_map[0, 1], segment_map[2, 2]
    colors = segment_colors(segment_map, [thing(k) for k in range(1, 10)], CATEGORIES)
    assert colors[9] != colors[1]


@pytest.mark.parametrize("crowd_first", [True, False])
def test_an_instance_beside_a_crowd_differs_from_it(crowd_first):
    segments = [thing(1, is_crowd=True), thing(2)][:: 1 if crowd_first else -1]
    colors = segment_colors(np.array([[1, 2]]), segments, CATEGORIES)
    assert colors[1] == (200, 40, 60)
    assert colors[2] != colors[1]


def test_more_neighbours_than_shades_still_get_colours():
    segments = [thing(k) for k in range(1, 31)]
    segment_map = np.stack([np.arange(2, 31), np.ones(29, int)])
    assert len(segment_colors(segment_map, segments, CATEGORIES)) == 31


def test_instances_of_two_categories_keep_their_own_hue():
    colors = segment_colors(np.array([[1, 2]]), [thing(1), thing(2, DOG)], CATEGORIES)
    assert (colors[1], colors[2]) == ((200, 40, 60), (0, 255, 0))


def test_painting_looks_up_every_id_and_takes_unknown_ones_for_void():
    painted = paint(np.array([[0, 3], [16_000_000, 4]]), {3: (1, 2, 3), 16_000_000: (4, 5, 6)})
    assert painted.dtype == np.uint8
    assert painted.tolist() == [[[*VOID_COLOR], [1, 2, 3]], [[4, 5, 6], [*VOID_COLOR]]]
