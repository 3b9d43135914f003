"""The rules of the merge, one by one, and its degenerate cases."""

import numpy as np
import pytest

from oracles.merge import bottom_up
from refine.fusion.merge import Instance, Relations, merge_segments, paint_order
from refine.options import MergeOptions
from refine.types import IGNORE_INDEX, MaskCrop

GRASS, SKY = 2, 3  # with two thing categories


def rectangle(y, x, height, width, *, label=0, score=0.9):
    return Instance(MaskCrop(y, x, np.ones((height, width), bool)), label, score)


def square(y, x, side, **values):
    return rectangle(y, x, side, side, **values)


def over(*pairs, margins=None):
    """Each ``(upper, lower)``."""
    pairs = np.array(pairs, np.int64).reshape(-1, 2)
    margins = np.ones(len(pairs)) if margins is None else np.array(margins)
    upper_first = np.where(pairs[:, 0] < pairs[:, 1], 1, -1).astype(np.int8)
    return Relations(np.sort(pairs, axis=1), upper_first, margins)


def run(instances, semantic=None, *, limit=0, relations=None, **options):
    semantic = np.full((12, 12), IGNORE_INDEX, np.uint8) if semantic is None else semantic
    return merge_segments(
        instances,
        semantic,
        num_things=2,
        options=MergeOptions(**options),
        stuff_area_limit_px=limit,
        relations=relations,
    ).paint()


def test_stuff_below_the_limit_is_void_and_the_limit_itself_is_kept():
    semantic = np.full((12, 12), SKY, np.uint8)
    semantic[:5] = GRASS
    kept = run([], semantic, limit=60)
    assert [(s.category, s.area) for s in kept.segments] == [(GRASS, 60), (SKY, 84)]
    assert [(s.id, s.category) for s in run([], semantic, limit=61).segments] == [(1, SKY)]
    assert run([], semantic, limit=1000).segments == ()


def test_inputs_are_left_as_they_are():
    semantic, instance = np.full((12, 12), GRASS, np.uint8), square(0, 0, 3)
    run([instance], semantic, limit=1000)
    assert (semantic == GRASS).all()
    assert instance.crop.mask.all()


@pytest.mark.parametrize("number", [3, 300])
def test_the_order_of_pixels_in_memory_makes_no_difference(number):
    rng = np.random.default_rng(number)
    semantic = rng.integers(0, 5, (30, 40)).astype(np.uint8)
    squares = [square(*rng.integers(0, 20, 2), rng.integers(1, 9)) for _ in range(number)]
    expected = run(squares, semantic, overlap_thresh=1)
    turned = np.asfortranarray(semantic)
    views = [turned, np.stack([semantic] * 2, axis=2)[..., 1], semantic[:, ::-1].copy()[:, ::-1]]
    for view in views:
        found = run(squares, view, overlap_thresh=1)
        assert found.segments == expected.segments
        assert np.array_equal(found.segment_map, expected.segment_map)
    assert run(squares, turned).segment_map.flags.f_contiguous


def test_a_score_of_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        run([square(0, 0, 3, score=float("nan"))])


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_is_no_thing_is_refused(label):
    with pytest.raises(ValueError, match=f"label {label}: expected 0 to 1"):
        run([square(0, 0, 3, label=label)])


def test_a_later_instance_reclaims_what_it_lies_over():
    result = run([square(0, 0, 6), square(2, 2, 4, score=0.6)], relations=over((1, 0)))
    assert [(s.score, s.area) for s in result.segments] == [(0.9, 20), (0.6, 16)]
    assert (result.segment_map[2:6, 2:6] == 2).all()


def test_what_is_reclaimed_entirely_disappears_and_ids_close_up():
    scene = [square(1, 1, 3), square(6, 6, 3, label=1, score=0.8), square(0, 0, 6, score=0.6)]
    result = run(scene, relations=over((2, 0)))
    assert [(s.id, s.score, s.area) for s in result.segments] == [(1, 0.8, 9), (2, 0.6, 36)]
    assert sorted(np.unique(result.segment_map)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("margins", "owner"),
    [((0.1, 0.5, 0.5), 2), ((0.5, 0.1, 0.5), 3), ((0.5, 0.5, 0.1), 1), ((0.5, 0.5, 0.5), 1)],
)
def test_a_topological_circle_is_cut_at_its_weakest_relation(margins, owner):
    cross = [rectangle(0, 0, 2, 8), rectangle(0, 0, 8, 2, score=0.8), square(0, 0, 4, score=0.7)]
    circle = over((0, 1), (1, 2), (2, 0), margins=margins)
    result = run(cross, relations=circle, order="topological", overlap_thresh=1)
    assert result.segment_map[0, 0] == owner
    assert [s.area for s in result.segments] == [
        np.count_nonzero(result.segment_map == s.id) for s in result.segments
    ]


@pytest.mark.parametrize(
    ("rule", "areas"), [("covered", [16, 8]), ("visible", [16])], ids=["covered", "visible"]
)
def test_the_two_rules_differ_at_exactly_one_half(rule, areas):
    scene = [square(0, 0, 4), square(0, 2, 4, score=0.8)]
    assert [s.area for s in run(scene, overlap_rule=rule).segments] == areas


@pytest.mark.parametrize(
    ("by_score", "edges", "expected"),
    [
        ([4, 0, 2], [], [2, 0, 4]),
        ([0, 1, 2], [(2, 0), (1, 2)], [0, 2, 1]),
        ([1, 0], [(0, 7), (7, 1)], [0, 1]),  # 7 is not among the instances
        ([3], [(3, 3)], [3]),
        ([0, 1, 2], [(0, 1), (1, 2), (2, 0)], [2, 1, 0]),  # the last of a circle is dropped
        ([0, 1], [(1, 0), (0, 1)], [0, 1]),
    ],
)
def test_paint_order(by_score, edges, expected):
    assert paint_order(by_score, edges) == expected


def test_paint_order_of_random_circles_equals_the_loops():
    rng = np.random.default_rng(0)
    for _ in range(200):
        count = int(rng.integers(1, 9))
        pairs = rng.permutation(np.argwhere(~np.eye(count, dtype=bool)))
        edges = [tuple(pair) for pair in pairs[: rng.integers(0, 14)].tolist()]
        margins = np.linspace(1, 0, len(edges))
        triples = [(*edge, margin) for edge, margin in zip(edges, margins, strict=True)]
        by_score = rng.permutation(count).tolist()
        assert paint_order(by_score, edges) == bottom_up(by_score, triples)
