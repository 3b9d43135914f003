import numpy as np
import pytest

from refine.metrics.functional import (
    PanopticStats,
    average_quality,
    compute_category_quality,
    match_segments,
    to_metric_keys,
)
from refine.types import Segment


def thing(segment_id, category=0, *, area=0, is_crowd=False):
    return Segment(id=segment_id, category=category, is_thing=True, area=area, is_crowd=is_crowd)


def row(*runs):
    """A one-row map from (id, length) pairs."""
    return np.repeat([r[0] for r in runs], [r[1] for r in runs]).astype(np.int32)[None]


def score(pred_map, pred, true_map, true, num_categories=2):
    """(iou, tp, fp, fn) of category 0; the areas of the truth are counted."""
    true = [
        thing(s.id, s.category, area=int((true_map == s.id).sum()), is_crowd=s.is_crowd)
        for s in true
    ]
    stats = match_segments(
        pred_map, pred, true_map=true_map, true_segments=true, num_categories=num_categories
    )
    return stats.iou[0], stats.tp[0], stats.fp[0], stats.fn[0]


def test_the_same_map_matches_exactly():
    same = row((0, 3), (7, 5), (9, 2))
    segments = [thing(7), thing(9)]
    assert score(same, segments, same, segments) == (2.0, 2, 0, 0)


def test_iou_of_exactly_half_is_no_match():
    assert score(row((1, 5), (0, 5)), [thing(1)], row((1, 10)), [thing(1)]) == (0, 0, 1, 1)
    assert score(row((1, 6), (0, 4)), [thing(1)], row((1, 10)), [thing(1)])[1:] == (1, 0, 0)


def test_true_void_leaves_the_union_and_predicted_void_does_not():
    spilled = score(row((1, 10)), [thing(1)], row((1, 6), (0, 4)), [thing(1)])
    assert spilled == (1.0, 1, 0, 0)
    erased = score(row((1, 6), (0, 4)), [thing(1)], row((1, 10)), [thing(1)])
    assert erased == (pytest.approx(0.6), 1, 0, 0)


def test_an_erased_segment_is_missed():
    # torchmetrics' PanopticQuality would forgive both
    assert score(row((0, 10)), [], row((1, 10)), [thing(1)]) == (0, 0, 0, 1)
    assert score(row((1, 4), (0, 6)), [thing(1)], row((1, 10)), [thing(1)]) == (0, 0, 1, 1)


def test_another_category_is_wrong_and_missed():
    stats = match_segments(
        row((1, 10)),
        [thing(1, 1)],
        true_map=row((1, 10)),
        true_segments=[thing(1, 0, area=10)],
        num_categories=3,
    )
    assert stats.tp.tolist() == [0, 0, 0]
    assert stats.fp.tolist() == [0, 1, 0]
    assert stats.fn.tolist() == [1, 0, 0]


def test_a_crowd_never_matches_and_is_never_missed():
    crowd = [thing(1, is_crowd=True)]
    assert score(row((0, 10)), [], row((1, 10)), crowd) == (0, 0, 0, 0)
    assert score(row((1, 10)), [thing(1)], row((1, 10)), crowd) == (0, 0, 0, 0)


def test_only_more_than_half_on_void_and_own_crowd_excuses():
    crowd = [thing(1, is_crowd=True)]
    half = row((1, 3), (0, 2), (2, 5))
    more = row((1, 3), (0, 3), (2, 4))
    assert score(row((5, 10)), [thing(5)], half, [*crowd, thing(2, 1)])[2] == 1
    assert score(row((5, 10)), [thing(5)], more, [*crowd, thing(2, 1)])[2] == 0
    other = [thing(1, 1, is_crowd=True), thing(2, 1)]
    assert score(row((5, 10)), [thing(5)], more, other)[2] == 1, "a crowd of another category"


@pytest.mark.parametrize(("first", "last", "fp"), [(8, 3, 1), (3, 8, 0)])
def test_the_last_listed_crowd_of_a_category_counts(first, last, fp):
    # ids run against the order of listing: the order decides, not the id
    true_map = row((2, first), (1, last))
    crowds = [thing(2, is_crowd=True), thing(1, is_crowd=True)]
    assert score(row((5, 11)), [thing(5)], true_map, crowds)[2] == fp


def test_the_stated_area_of_the_truth_counts():
    stats = match_segments(
        row((1, 6), (0, 4)),
        [thing(1)],
        true_map=row((1, 6), (0, 4)),
        true_segments=[thing(1, area=10)],
        num_categories=1,
    )
    assert stats.iou.tolist() == [0.6]


def test_true_segment_without_pixels_is_missed():
    stats = match_segments(
        row((0, 4)),
        [],
        true_map=row((0, 4)),
        true_segments=[thing(3, area=7)],
        num_categories=1,
    )
    assert stats.fn.tolist() == [1]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32, np.int64])
def test_any_integer_map_and_layout(dtype):
    grid = np.array([[0, 1, 1], [2, 2, 1]])
    segments = [thing(1, area=3), thing(2, 1, area=2)]
    for pred_map in (grid.astype(dtype), np.asfortranarray(grid, dtype=dtype)):
        stats = match_segments(
            pred_map,
            segments,
            true_map=grid.astype(np.int32),
            true_segments=segments,
            num_categories=2,
        )
        assert (stats.iou.tolist(), stats.tp.tolist()) == ([1, 1], [1, 1])


def test_ids_beyond_a_narrow_map_are_strangers_not_aliases():
    with pytest.raises(ValueError, match="id 257 is among the predicted segments but not in"):
        score(np.ones((1, 4), np.uint8), [thing(1), thing(257)], row((1, 4)), [thing(1)])


@pytest.mark.parametrize("pixels", [2**15 - 1, 2**15, 2**15 + 1, 2**16 + 5, 200_000])
def test_long_runs_are_counted_whole(pixels):
    top = 2**24 - 1
    pred_map, true_map = row((top, pixels), (0, 7)), row((top, pixels + 7))
    iou, tp, fp, fn = score(pred_map, [thing(top)], true_map, [thing(top)])
    assert (iou, tp, fp, fn) == (pytest.approx(pixels / (pixels + 7), abs=1e-15), 1, 0, 0)


def test_one_pixel_and_all_void():
    assert score(row((1, 1)), [thing(1)], row((1, 1)), [thing(1)]) == (1.0, 1, 0, 0)
    assert score(row((0, 1)), [], row((0, 1)), []) == (0, 0, 0, 0)
    assert score(row((1, 9)), [thing(1)], row((0, 9)), []) == (0, 0, 0, 0), "all excused"


@pytest.mark.parametrize(
    ("pred_map", "pred", "true", "message"),
    [
        (row((1, 3)), [thing(1)], [], "map is 1 x 3, the true one 1 x 4"),
        (row((1, 2), (2, 2)), [thing(1)], [], "id 2 is in the predicted map but not among"),
        (row((1, 4)), [thing(1), thing(3)], [], "id 3 is among the predicted segments but not"),
        (row((1, 4)), [thing(1), thing(1)], [], "predicted segment id 1 is listed twice"),
        (row((1, 4)), [thing(1)], [thing(2), thing(2)], "true segment id 2 is listed twice"),
        (row((0, 4)), [thing(0)], [], "ids start at 1"),
        (row((-1, 4)), [], [], "id -1 of a map does not lie in"),
        (row((2**24, 4)), [thing(2**24)], [], "id 16777216 of a map does not lie in"),
        (row((1, 4)), [thing(1)], [thing(1, area=3)], "true segment 1 states an area smaller"),
        (row((1, 4)), [thing(1)], [thing(1, area=0)], "true segment 1 states an area smaller"),
    ],
)
def test_contradictions_are_refused(pred_map, pred, true, message):
    with pytest.raises(ValueError, match=message):
        match_segments(pred_map, pred, true_map=row((1, 4)), true_segments=true, num_categories=1)


def test_maps_without_pixels_are_refused():
    empty = np.zeros((0, 5), np.int32)
    with pytest.raises(ValueError, match="0 x 5"):
        match_segments(empty, [], true_map=empty, true_segments=[], num_categories=1)


STATS = PanopticStats(
    iou=np.array([1.6, 0.0, 0.0, 0.9]),
    tp=np.array([2, 0, 0, 1]),
    fp=np.array([1, 2, 0, 0]),
    fn=np.array([1, 0, 0, 2]),
)


def test_quality_of_a_category():
    quality = compute_category_quality(STATS)
    np.testing.assert_allclose(quality.sq, [0.8, 0, 0, 0.9])
    np.testing.assert_allclose(quality.rq, [2 / 3, 0, 0, 0.5])
    np.testing.assert_allclose(quality.pq, quality.sq * quality.rq)
    assert quality.is_present.tolist() == [True, True, False, True]


def test_absent_categories_stay_out_of_averages():
    groups = average_quality(STATS, num_things=3)
    assert list(groups) == ["all", "things", "stuff"]
    assert [g.num_categories for g in groups.values()] == [3, 2, 1]
    assert groups["things"].pq == pytest.approx(1.6 / 3 / 2)
    assert groups["stuff"].rq == pytest.approx(0.5)
    assert groups["all"].sq == pytest.approx((0.8 + 0.9) / 3)


def test_keys_and_empty_groups():
    groups = average_quality(PanopticStats.zeros(2), num_things=2)
    keys = to_metric_keys(groups)
    names = "pq sq rq pq_things sq_things rq_things pq_stuff sq_stuff rq_stuff"
    assert list(keys) == names.split()
    assert set(keys.values()) == {0.0}
    assert {g.num_categories for g in groups.values()} == {0}


def test_sums_of_parts():
    total = STATS + PanopticStats.zeros(4) + STATS
    assert total.tp.tolist() == [4, 0, 0, 2]
    assert total.iou.tolist() == [3.2, 0, 0, 1.8]
    assert (total.iou.dtype, total.fn.dtype) == (np.float64, np.int64)
