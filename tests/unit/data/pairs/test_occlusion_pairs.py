"""Worked examples; random scenes, with crowds and twins, are compared with an oracle."""

import numpy as np
import pytest

from make.dataset import (
    CAT,
    Thing,
    annotate,
    describe,
    instances_json,
    order_pairs,
    paint,
    rectangle,
    write_tree,
)
from refine.coco_format.layout import open_dataset
from refine.data.pairs.occlusion_pairs import OcclusionPairs, OrderedPair


def find(things, *drawn, **options):
    return order_pairs(annotate(things), *drawn, **options)


def two_squares():
    return Thing(rectangle(2, 2, 10, 10), id=1), Thing(rectangle(4, 6, 12, 14), CAT, id=2)


def test_the_share_of_either_outline_counts_and_the_limit_is_in():
    small, large = Thing(rectangle(0, 0, 2, 5), id=1), Thing(rectangle(0, 4, 10, 20), CAT, id=2)
    drawn = paint([large, small])
    assert find([small, large], *drawn, rho=0.2) == [(1, 2, 1)]  # 2 of 10 pixels, 2 of 160
    assert find([small, large], *drawn, rho=0.2001) == []
    apart = Thing(rectangle(0, 0, 2, 4), id=1)
    assert find([apart, large], *paint([large, apart]), rho=0.0) == []


@pytest.mark.parametrize(
    ("repaint", "expected"),
    [
        ([(slice(4, 9), 90)], []),  # stuff owns 20 of the 24 pixels of the overlap
        ([(slice(4, 10), 0)], []),  # void has no say
        ([(slice(4, 10), 0), (slice(9, 10), 10)], [(1, 2, 1)]),
        ([(slice(4, 7), 10)], []),  # a tie
        ([(slice(4, 7), 90)], [(1, 2, 2)]),  # stuff owns as much as the upper one, no more
    ],
)
def test_the_overlap_votes(repaint, expected):
    squares = two_squares()
    segment_map, segments = paint(squares)
    for rows, value in repaint:
        segment_map[rows, 6:10] = value
    segments = describe([(s.id, s.category, s.is_crowd) for s in segments], segment_map)
    assert find(squares, segment_map, segments) == expected


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_order_reads_no_map(count):
    things = [Thing(rectangle(2, 2, 10, 10), id=1)][:count]
    things.append(Thing(rectangle(12, 12, 14, 14), CAT, id=2))
    # reading it would fail: the map has ids that the segments lack
    assert find(things, np.ones((16, 20), np.int32), []) == []


def test_one_pixel():
    first, second = (Thing(rectangle(0, 0, 1, 1, (1, 1)), id=i) for i in (1, 2))
    assert find([first, second], *paint([first, second])) == []  # the lower one has no segment
    empty = Thing(np.zeros((1, 1), bool), CAT, id=3)
    assert find([first, empty], *paint([first])) == []


def test_pairs_by_image():
    pairs = OcclusionPairs.from_images(
        {7: [OrderedPair(1, 2, 2)], 3: [OrderedPair(5, 4, 5), OrderedPair(5, 9, 9)], 4: []}
    )
    assert len(pairs) == 3
    assert pairs.image_ids.tolist() == [3, 3, 7]
    assert pairs.of_image(3).tolist() == [[5, 4], [9, 5]]
    assert pairs.of_image(4).shape == (0, 2)
    assert pairs.of_image(99).dtype == np.int64
    chosen = pairs.of_images([7, 4])
    assert chosen.image_ids.tolist() == [7]
    assert chosen.ordered.tolist() == [[2, 1]]
    assert pairs.of_images([]).ordered.shape == (0, 2)
    large = 2**62 - 1  # ids are not added up
    pairs = OcclusionPairs.from_images({1: [OrderedPair(large, large - 1, large)]})
    assert pairs.ordered.tolist() == [[large, large - 1]]


@pytest.mark.parametrize(
    ("pairs", "counts"),
    [
        ([OrderedPair(1, 2, 2)], [[0, 0], [1, 0]]),
        ([OrderedPair(1, 2, 1), OrderedPair(4, 2, 4)], [[0, 2], [0, 0]]),
        ([], [[0, 0], [0, 0]]),
    ],
)
def test_category_counts(tmp_path, pairs, counts):
    files = open_dataset(write_tree(tmp_path, instances=instances_json()), "train2017")
    found = OcclusionPairs.from_images({1: pairs})
    assert found.count_categories(files.instances, 2).tolist() == counts
