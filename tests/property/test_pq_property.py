import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import pq as oracle
from refine.metrics.functional import (
    PanopticStats,
    average_quality,
    find_segment_errors,
    match_segments,
)
from refine.types import GroundTruth, PanopticPrediction, Segment

NUM_THINGS, NUM_CATEGORIES = 3, 5


def _paint(rng, size, num_ids):
    """A map of overlapping rectangles over void; ids anywhere below 2^24."""
    height, width = size
    values = rng.choice(2**24 - 1, num_ids, replace=False) + 1
    segment_map = np.zeros(size, np.int32)
    for value in values:
        y, x = rng.integers(0, height), rng.integers(0, width)
        h, w = rng.integers(1, height + 1), rng.integers(1, width + 1)
        segment_map[y : y + h, x : x + w] = value
    return segment_map


def _disturb(rng, segment_map):
    """The same map moved, with stretches voided and ids swapped."""
    shift = rng.integers(-1, 2, 2) * rng.integers(0, 2)
    moved = np.roll(segment_map, tuple(shift), (0, 1))
    moved = np.where(rng.random(moved.shape) < rng.choice([0, 0.1, 0.3, 0.6]), 0, moved)
    ids = np.setdiff1d(moved, 0)
    fresh = rng.choice(2**24 - 1, len(ids), replace=False) + 1
    for value, new in zip(ids, fresh, strict=True):
        moved[moved == value] = -new
    return np.abs(moved).astype(np.int32)


def _describe(rng, segment_map, categories, crowd_share=0.0):
    segments = []
    for value in rng.permutation(np.setdiff1d(segment_map, 0)).tolist():
        category, area = int(rng.choice(categories)), int((segment_map == value).sum())
        fields = {"is_thing": category < NUM_THINGS, "is_crowd": bool(rng.random() < crowd_share)}
        segments.append(Segment(id=value, category=category, area=area, **fields))
    return segments


def random_pair(seed):
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 14, 2))
    # one or two categories make matches and several crowds of one category common
    categories = rng.choice(NUM_CATEGORIES, rng.integers(1, 3), replace=False)
    true_map = _paint(rng, size, rng.integers(0, 7))
    pred_map = _disturb(rng, true_map) if rng.random() < 0.7 else _paint(rng, size, 5)
    true_segments = _describe(rng, true_map, categories, rng.choice([0, 0.3, 1]))
    # ids that no segment of the truth claims are neither void nor segment
    if true_segments and rng.random() < 0.2:
        true_segments.pop()
    return pred_map, _describe(rng, pred_map, categories), true_map, true_segments


def _check(seed):
    pred_map, pred_segments, true_map, true_segments = random_pair(seed)
    prediction = PanopticPrediction(segment_map=pred_map, segments=tuple(pred_segments))
    truth = GroundTruth(segment_map=true_map, segments=tuple(true_segments))
    fast = match_segments(prediction, truth, num_categories=NUM_CATEGORIES)
    wrong, missed = find_segment_errors(prediction, truth)
    assert (len(wrong), len(missed)) == (fast.fp.sum(), fast.fn.sum())
    slow = oracle.match_segments(pred_map, pred_segments, true_map, true_segments, NUM_CATEGORIES)
    found = np.stack([fast.iou, fast.tp, fast.fp, fast.fn], axis=1)
    np.testing.assert_allclose(found, slow, rtol=0, atol=1e-12)
    groups = average_quality(fast, NUM_THINGS)
    for name, chosen in (("all", range(5)), ("things", range(3)), ("stuff", range(3, 5))):
        assert groups[name] == pytest.approx(oracle.average(slow, chosen), abs=1e-12)
    return fast


@settings(max_examples=150)
@given(st.integers(0, 2**32 - 1))
def test_kernel_and_averages_equal_the_loops(seed):
    _check(seed)


def test_random_pairs_reach_every_outcome():
    """Else the property above would prove nothing."""
    total = sum((_check(seed) for seed in range(200)), PanopticStats.zeros(NUM_CATEGORIES))
    assert min(total.tp.sum(), total.fp.sum(), total.fn.sum()) > 50
    kinds = [random_pair(seed) for seed in range(200)]
    crowds = [[t.category for t in truth if t.is_crowd] for *_, truth in kinds]
    assert sum(len(c) > len(set(c)) for c in crowds) > 5, "several crowds of one category"
    assert any(not pred for _, pred, *_ in kinds)
    assert any(not truth for *_, truth in kinds)
