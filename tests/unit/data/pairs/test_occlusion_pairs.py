import numpy as np
import pytest

from make.dataset import (
    CAR,
    CAT,
    Thing,
    annotate,
    describe,
    instances_json,
    paint,
    rectangle,
    runs_of,
    write_tree,
)
from refine.coco_format.instances import InstanceAnnotation
from refine.coco_format.layout import open_dataset
from refine.data.pairs.occlusion_pairs import OcclusionPairs, OrderedPair, find_pairs


def find(things, segment_map, segments, rho=0.2):
    return find_pairs(
        annotate(things),
        segments,
        read_map=lambda: runs_of(segment_map, segments),
        size=segment_map.shape,
        overlap_thresh=rho,
    )


def two_squares():
    return Thing(rectangle(2, 2, 10, 10), id=1), Thing(rectangle(4, 6, 12, 14), CAT, id=2)


@pytest.mark.parametrize("upper", [0, 1])
def test_painting_the_other_way_round_turns_the_order(upper):
    squares = two_squares()
    drawn = paint([squares[1 - upper], squares[upper]])
    assert find(squares, *drawn) == [(1, 2, squares[upper].id)]
    # the order of the file decides who is first, not who is on top
    assert find(squares[::-1], *drawn) == [(2, 1, squares[upper].id)]


def test_polygons_are_outlines_too():
    squares = two_squares()
    segment_map, segments = paint(squares)
    corners = [
        np.array([[x, y], [x + 8, y], [x + 8, y + 8], [x, y + 8]]) for x, y in [(2, 2), (6, 4)]
    ]
    annotations = [
        InstanceAnnotation(thing.id, thing.category, False, (0, 0, 1, 1), (polygon * 1.0,))
        for thing, polygon in zip(squares, corners, strict=True)
    ]
    found = find_pairs(
        annotations,
        segments,
        read_map=lambda: runs_of(segment_map, segments),
        size=segment_map.shape,
        overlap_thresh=0.2,
    )
    assert found == [(1, 2, 2)]


def test_the_share_of_either_outline_counts_and_the_limit_is_in():
    small, large = Thing(rectangle(0, 0, 2, 5), id=1), Thing(rectangle(0, 4, 10, 20), CAT, id=2)
    drawn = paint([large, small])
    assert find([small, large], *drawn, rho=0.2) == [(1, 2, 1)]  # 2 of 10 pixels, 2 of 160
    assert find([small, large], *drawn, rho=0.2001) == []
    apart = Thing(rectangle(0, 0, 2, 4), id=1)
    assert find([apart, large], *paint([large, apart]), rho=0.0) == []


@pytest.mark.parametrize("third", [CAR, CAT])
def test_a_third_thing_over_the_overlap_discards_the_pair(third):
    squares = two_squares()
    lid = Thing(rectangle(4, 6, 9, 10), third, id=3)
    found = {tuple(p): p.top for p in find([*squares, lid], *paint([*squares, lid]))}
    assert (1, 2, 2) not in found
    assert {p[:2] for p in found} == {(1, 3), (2, 3)}
    assert set(found.values()) == {3}


def test_stuff_or_a_crowd_over_the_overlap_discards_the_pair():
    squares = two_squares()
    segment_map, segments = paint(squares)
    segment_map[4:9, 6:10] = 90
    assert find(squares, segment_map, segments) == []
    crowd = Thing(rectangle(4, 6, 9, 10), is_crowd=True, id=3)
    assert find([*squares, crowd], *paint([*squares, crowd])) == []


def test_less_than_the_most_does_not_discard():
    squares = two_squares()
    lid = Thing(rectangle(4, 6, 6, 10), id=3)  # 8 of the 24 pixels
    assert (1, 2, 2) in find([*squares, lid], *paint([*squares, lid]), rho=0.0)
    segment_map, segments = paint([*squares, lid])
    segment_map[6:7, 6:10] = lid.segment  # 12 of 24: as many as the upper one
    assert (1, 2, 2) in find([*squares, lid], segment_map, segments, rho=0.0)


def test_void_in_the_overlap_has_no_say():
    squares = two_squares()
    segment_map, segments = paint(squares)
    segment_map[4:10, 6:10] = 0
    assert find(squares, segment_map, segments) == []
    segment_map[9, 9] = squares[0].segment
    assert find(squares, segment_map, segments) == [(1, 2, 1)]


def test_a_tie_has_no_order():
    squares = two_squares()
    segment_map, segments = paint(squares)
    segment_map[4:7, 6:10] = squares[0].segment
    assert find(squares, segment_map, segments) == []


def test_crowds_are_in_no_pair():
    squares = two_squares()
    drawn = paint(squares)
    for square in squares:
        square.is_crowd = True
        assert find(squares, *drawn) == []
        square.is_crowd = False


def test_a_crowd_segment_is_nobodys_visible_part():
    squares = two_squares()
    segment_map, _ = paint(squares)
    first, second = squares
    segments = describe([(first.segment, CAR, True), (second.segment, CAT, False)], segment_map)
    segment_map[segment_map == 90] = 0
    assert find(squares, segment_map, segments) == []


def test_an_instance_without_a_segment_has_no_order():
    squares = two_squares()
    hidden = Thing(rectangle(5, 7, 8, 9), id=3)  # below both
    segment_map, segments = paint([hidden, *squares])
    assert (segment_map != hidden.segment).all()
    assert find([*squares, hidden], segment_map, segments) == [(1, 2, 2)]
    # a segment of another category is not the instance's own
    squares[0].category = CAT
    assert find(squares, segment_map, segments) == []


def test_of_two_equal_outlines_one_alone_has_a_segment():
    twins = Thing(rectangle(2, 2, 10, 10), id=1), Thing(rectangle(2, 2, 10, 10), id=2)
    assert find(twins, *paint(twins)) == []
    other = Thing(rectangle(4, 6, 12, 14), CAT, id=3)
    assert find([*twins, other], *paint([*twins, other])) == [(1, 3, 3)]


def test_equal_outlines_of_two_categories_are_ordered_where_both_show():
    first, second = Thing(rectangle(2, 2, 10, 10), id=1), Thing(rectangle(2, 2, 10, 10), CAT, id=2)
    segment_map, _ = paint([first, second])
    segment_map[2, 2] = first.segment
    segments = describe([(first.segment, CAR, False), (second.segment, CAT, False)], segment_map)
    segment_map[segment_map == 90] = 0
    assert find([first, second], segment_map, segments) == [(1, 2, 2)]


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_order_reads_no_map(count):
    things = [Thing(rectangle(2, 2, 10, 10), id=1)][:count]
    far = Thing(rectangle(12, 12, 14, 14), CAT, id=2)
    for known in (things, [*things, far]):
        found = find_pairs(
            annotate(known), [], read_map=lambda: pytest.fail("read"), size=(16, 20),
            overlap_thresh=0.2,
        )  # fmt: skip
        assert found == []


def test_one_pixel():
    pixel = rectangle(0, 0, 1, 1, size=(1, 1))
    first, second = Thing(pixel, id=1), Thing(pixel, CAT, id=2)
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
    assert len(pairs.of_images([])) == 0


def test_no_pairs_at_all():
    pairs = OcclusionPairs.from_images({})
    assert len(pairs) == 0
    assert pairs.ordered.shape == (0, 2)
    assert pairs.triples.shape == (0, 3)


def test_large_ids_are_not_added_up():
    large = 2**62 - 1
    pairs = OcclusionPairs.from_images({1: [OrderedPair(large, large - 1, large)]})
    assert pairs.ordered.tolist() == [[large, large - 1]]


def test_category_counts(tmp_path):
    files = open_dataset(write_tree(tmp_path, instances=instances_json()), "train2017")
    pairs = OcclusionPairs.from_images({1: [OrderedPair(1, 2, 2)]})
    assert pairs.count_categories(files.instances, 2).tolist() == [[0, 0], [1, 0]]
    twice = OcclusionPairs.from_images({1: [OrderedPair(1, 2, 1), OrderedPair(4, 2, 4)]})
    assert twice.count_categories(files.instances, 2).tolist() == [[0, 2], [0, 0]]
    none = OcclusionPairs.from_images({})
    assert none.count_categories(files.instances, 2).tolist() == [[0, 0], [0, 0]]
