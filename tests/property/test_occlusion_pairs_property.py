"""Ordered pairs equal one loop over pixels, and do not depend on how the annotations stand."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from make.dataset import GRASS, Thing, annotate, describe, order_pairs, rectangle
from oracles import occlusion_pairs as oracle

SIZE = (12, 14)


def random_things(rng):
    things = []
    for k in range(int(rng.integers(0, 7))):
        top, left = rng.integers(0, 9, 2).tolist()
        bottom, right = (np.array([top, left]) + rng.integers(2, 9, 2)).tolist()
        mask = rectangle(top, left, bottom, right, SIZE) & (rng.random(SIZE) < 0.9)
        if things and rng.random() < 0.15:
            mask = things[-1].mask
        is_crowd = rng.random() < 0.1
        things.append(Thing(mask, int(rng.integers(0, 2)), is_crowd, segment=10 + k, id=100 + k))
    return things


def random_map(rng, things):
    """Painted in any order, with void patches; some instances have no segment of their own."""
    segment_map = np.where(rng.random(SIZE) < 0.5, 90, 0).astype(np.int32)
    entries = [(90, GRASS, False)]
    for k in rng.permutation(len(things)).tolist():
        thing = things[k]
        if rng.random() < 0.9:
            segment_map[thing.mask] = thing.segment
            category = thing.category if rng.random() < 0.95 else 1 - thing.category
            entries.append((thing.segment, category, thing.is_crowd))
    if rng.random() < 0.5:
        top, left = rng.integers(0, 10, 2).tolist()
        segment_map[top : top + 5, left : left + 5] = 0
    return segment_map, describe(entries, segment_map)


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32 - 1), rho=st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0]))
def test_pairs_equal_the_oracle(seed, rho):
    rng = np.random.default_rng(seed)
    things = random_things(rng)
    segment_map, segments = random_map(rng, things)
    found = order_pairs(annotate(things), segment_map, segments, rho)
    expected = oracle.find_pairs(
        [(t.id, t.category, t.is_crowd, t.mask) for t in things],
        [(s.id, s.category, s.is_thing, s.is_crowd) for s in segments],
        segment_map,
        rho,
    )
    assert {p[:2]: p.top for p in found} == expected
    assert [p[:2] for p in found] == list(expected)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
def test_more_overlap_asked_for_leaves_a_part_of_the_pairs(seed):
    rng = np.random.default_rng(seed)
    things = random_things(rng)
    drawn = random_map(rng, things)
    loose, strict = (set(order_pairs(annotate(things), *drawn, rho)) for rho in (0.1, 0.4))
    assert strict <= loose
