"""The segments that are counted as wrong and missed are named."""

import numpy as np

from refine.metrics.functional import find_segment_errors, match_segments
from refine.types import Segment


def segments(categories, crowds=()):
    return tuple(
        Segment(id=k, category=c, is_thing=True, area=4, is_crowd=k in crowds)
        for k, c in categories.items()
    )


def test_wrong_and_missed_segments_are_named():
    """1 matches 5, 2 has another category, 3 is a crowd and excuses 8, 9 lies on void."""
    true_map = np.repeat([[1, 2, 3, 0]], 4, axis=0)
    pred_map = np.repeat([[5, 7, 8, 9]], 4, axis=0)
    true, pred = segments({1: 0, 2: 1, 3: 2}, crowds=[3]), segments({5: 0, 7: 0, 8: 2, 9: 1})
    errors = find_segment_errors(pred_map, pred, true_map=true_map, true_segments=true)
    assert errors == ({7}, {2})


def test_as_many_are_named_as_are_counted():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(50):
        maps = [np.kron(rng.integers(0, 5, (3, 4)), np.ones((2, 2), int)) for _ in range(2)]
        ids = [np.setdiff1d(m, 0) for m in maps]
        pred, true = (
            tuple(
                Segment(
                    id=int(k),
                    category=int(rng.integers(2)),
                    is_thing=True,
                    area=int((m == k).sum()),
                )
                for k in known
            )
            for m, known in zip(maps, ids, strict=True)
        )
        truth = {"true_map": maps[1], "true_segments": true}
        errors = find_segment_errors(maps[0], pred, **truth)
        stats = match_segments(maps[0], pred, num_categories=2, **truth)
        assert (len(errors.wrong), len(errors.missed)) == (stats.fp.sum(), stats.fn.sum())
        found += len(errors.wrong)
    assert found


def test_nothing_predicted_misses_everything():
    truth = {"true_map": np.ones((1, 1), int), "true_segments": segments({1: 0})}
    assert find_segment_errors(np.zeros((1, 1), int), (), **truth) == (set(), {1})
