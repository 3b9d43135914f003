from dataclasses import replace

import numpy as np
import pytest

from refine.metrics.functional import (
    PanopticStats,
    average_quality,
    find_segment_errors,
    match_segments,
    to_metric_keys,
)
from refine.types import GroundTruth, PanopticPrediction, Segment


def thing(segment_id, category=0, *, area=0, is_crowd=False):
    return Segment(id=segment_id, category=category, is_thing=True, area=area, is_crowd=is_crowd)


def row(*runs):
    """A one-row map from (id, length) pairs."""
    return np.repeat([r[0] for r in runs], [r[1] for r in runs]).astype(np.int32)[None]


def score(pred_map, pred, true_map, true):
    """(iou, tp, fp, fn) of category 0 of two; the areas of the truth are counted."""
    true = [replace(s, area=int((true_map == s.id).sum())) for s in true]
    stats = match(pred_map, pred, true_map, true, 2)
    return stats.iou[0], stats.tp[0], stats.fp[0], stats.fn[0]


def match(pred_map, pred, true_map, true, num_categories=1):
    return match_segments(
        PanopticPrediction(segment_map=pred_map, segments=tuple(pred)),
        GroundTruth(segment_map=true_map, segments=tuple(true)),
        num_categories=num_categories,
    )


ONE = [thing(1)]
CROWD = [thing(1, is_crowd=True)]
TEN = row((1, 10))


@pytest.mark.parametrize(
    ("pred_map", "pred", "true_map", "true", "expected"),
    [
        pytest.param(
            row((0, 3), (7, 5), (9, 2)), [thing(7), thing(9)],
            row((0, 3), (7, 5), (9, 2)), [thing(7), thing(9)], (2.0, 2, 0, 0),
            id="the same map matches exactly",
        ),
        pytest.param(row((1, 5), (0, 5)), ONE, TEN, ONE, (0, 0, 1, 1), id="IoU of exactly half"),
        pytest.param(row((1, 6), (0, 4)), ONE, TEN, ONE, (0.6, 1, 0, 0), id="IoU above half"),
        pytest.param(
            TEN, ONE, row((1, 6), (0, 4)), ONE, (1.0, 1, 0, 0), id="true void leaves the union"
        ),
        pytest.param(row((0, 10)), [], TEN, ONE, (0, 0, 0, 1), id="an erased segment is missed"),
        pytest.param(
            row((1, 4), (0, 6)), ONE, TEN, ONE, (0, 0, 1, 1), id="so is a half erased one"
        ),
        pytest.param(row((0, 10)), [], TEN, CROWD, (0, 0, 0, 0), id="a crowd is never missed"),
        pytest.param(TEN, ONE, TEN, CROWD, (0, 0, 0, 0), id="a crowd never matches"),
        pytest.param(row((1, 1)), ONE, row((1, 1)), ONE, (1.0, 1, 0, 0), id="one pixel"),
        pytest.param(row((0, 1)), [], row((0, 1)), [], (0, 0, 0, 0), id="nothing"),
        pytest.param(row((1, 9)), ONE, row((0, 9)), [], (0, 0, 0, 0), id="all on void"),
    ],
)  # fmt: skip
def test_rules_of_matching(pred_map, pred, true_map, true, expected):
    assert score(pred_map, pred, true_map, true) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("true_map", "true", "fp"),
    [
        (row((1, 3), (0, 2), (2, 5)), [*CROWD, thing(2, 1)], 1),
        (row((1, 3), (0, 3), (2, 4)), [*CROWD, thing(2, 1)], 0),
        (row((1, 3), (0, 3), (2, 4)), [thing(1, 1, is_crowd=True), thing(2, 1)], 1),
        # ids run against the order of listing: the order decides, not the id
        (row((2, 7), (1, 3)), [thing(2, is_crowd=True), *CROWD], 1),
        (row((2, 3), (1, 7)), [thing(2, is_crowd=True), *CROWD], 0),
    ],
    ids=["half", "more", "another category", "the last crowd is small", "the last crowd is large"],
)
def test_more_than_half_on_void_and_the_last_crowd_of_the_category_excuses(true_map, true, fp):
    assert score(row((5, 10)), [thing(5)], true_map, true)[2] == fp


def test_the_stated_area_of_the_truth_counts():
    part = row((1, 6), (0, 4))
    assert match(part, ONE, part, [thing(1, area=10)]).iou.tolist() == [0.6]
    assert match(row((0, 4)), [], row((0, 4)), [thing(3, area=7)]).fn.tolist() == [1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.int64])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
def test_any_integer_map_and_layout(dtype, layout):
    grid = np.array([[0, 1, 1], [2, 2, 1]])
    segments = [thing(1, area=3), thing(2, 1, area=2)]
    stats = match(layout(grid.astype(dtype)), segments, grid.astype(np.int32), segments, 2)
    assert (stats.iou.tolist(), stats.tp.tolist()) == ([1, 1], [1, 1])


@pytest.mark.parametrize("pixels", [2**15 - 1, 2**15, 2**15 + 1, 2**16 + 5, 200_000])
def test_long_runs_are_counted_whole(pixels):
    top = [thing(2**24 - 1)]
    found = score(row((top[0].id, pixels), (0, 7)), top, row((top[0].id, pixels + 7)), top)
    assert found == (pytest.approx(pixels / (pixels + 7), abs=1e-15), 1, 0, 0)


@pytest.mark.parametrize(
    ("pred_map", "pred", "true", "message"),
    [
        (row((1, 3)), ONE, [], "map is 1 x 3, the true one 1 x 4"),
        (np.zeros((0, 5), int), [], [], "map is 0 x 5"),
        (row((1, 2), (2, 2)), ONE, [], "id 2 is in the predicted map but not among"),
        (row((1, 4)), [*ONE, thing(3)], [], "id 3 is among the predicted segments but not"),
        (np.ones((1, 4), np.uint8), [*ONE, thing(257)], [], "id 257 is among the predicted"),
        (row((1, 4)), [*ONE, *ONE], [], "predicted segment id 1 is listed twice"),
        (row((1, 4)), ONE, [thing(2), thing(2)], "true segment id 2 is listed twice"),
        (row((0, 4)), [thing(0)], [], "ids start at 1"),
        (row((-1, 4)), [], [], "id -1 of a map does not lie in"),
        (row((2**24, 4)), [thing(2**24)], [], "id 16777216 of a map does not lie in"),
        (row((1, 4)), ONE, [thing(1, area=3)], "true segment 1 states an area smaller"),
        (row((1, 4)), ONE, [thing(1, area=0)], "true segment 1 states an area smaller"),
    ],
)
def test_contradictions_are_refused(pred_map, pred, true, message):
    true_map = row((1, 4)) if pred_map.size else pred_map
    with pytest.raises(ValueError, match=message):
        match(pred_map, pred, true_map, true)


def test_wrong_and_missed_segments_are_named():
    """1 matches 5, 2 has another category, 3 is a crowd and excuses 8, 9 lies on void."""

    def segments(categories, crowds=()):
        return tuple(thing(k, c, area=4, is_crowd=k in crowds) for k, c in categories.items())

    true_map, found_map = (np.repeat([ids], 4, axis=0) for ids in ([1, 2, 3, 0], [5, 7, 8, 9]))
    truth = GroundTruth(segment_map=true_map, segments=segments({1: 0, 2: 1, 3: 2}, crowds=[3]))
    found = PanopticPrediction(segment_map=found_map, segments=segments({5: 0, 7: 0, 8: 2, 9: 1}))
    assert find_segment_errors(found, truth) == ({7}, {2})
    nothing = PanopticPrediction(segment_map=np.zeros((4, 4), int), segments=())
    assert find_segment_errors(nothing, truth) == (set(), {1, 2})


def test_nothing_is_0_under_every_name():
    nothing = average_quality(PanopticStats.zeros(2), num_things=2)
    names = "pq sq rq pq_things sq_things rq_things pq_stuff sq_stuff rq_stuff"
    assert to_metric_keys(nothing) == dict.fromkeys(names.split(), 0.0)
