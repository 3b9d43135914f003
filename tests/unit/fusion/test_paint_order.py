"""One order out of relations between pairs."""

import numpy as np
import pytest

from oracles.merge import bottom_up
from refine.fusion.merge import paint_order


def test_without_relations_the_highest_score_is_on_top():
    assert paint_order([4, 0, 2], []) == [2, 0, 4]


def test_what_lies_below_is_painted_first():
    assert paint_order([0, 1, 2], [(2, 0), (1, 2)]) == [0, 2, 1]


def test_unknown_instances_are_ignored():
    assert paint_order([1, 0], [(0, 7), (7, 1)]) == [0, 1]


@pytest.mark.parametrize("by_score", [[], [3]])
def test_nothing_to_order(by_score):
    assert paint_order(by_score, [(3, 3)] * len(by_score)) == by_score


def test_the_last_relation_of_a_circle_is_dropped():
    assert paint_order([0, 1, 2], [(0, 1), (1, 2), (2, 0)]) == [2, 1, 0]
    assert paint_order([0, 1, 2], [(2, 0), (0, 1), (1, 2)]) == [1, 0, 2]


def test_a_pair_that_contradicts_itself_goes_to_the_clearer_relation():
    assert paint_order([0, 1], [(1, 0), (0, 1)]) == [0, 1]


def test_random_circles_equal_the_loops():
    rng = np.random.default_rng(0)
    for _ in range(200):
        count = int(rng.integers(1, 9))
        pairs = rng.permutation(np.argwhere(~np.eye(count, dtype=bool)))
        edges = [tuple(pair) for pair in pairs[: rng.integers(0, 14)].tolist()]
        margins = np.linspace(1, 0, len(edges))
        triples = [(*edge, margin) for edge, margin in zip(edges, margins, strict=True)]
        by_score = rng.permutation(count).tolist()
        assert paint_order(by_score, edges) == bottom_up(by_score, triples)
