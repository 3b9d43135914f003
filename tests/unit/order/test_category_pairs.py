"""Frequencies of category pairs as an occlusion head."""

import itertools

import pytest
import torch

from refine.order.category_pairs import CategoryPairHead

LABELS = torch.tensor([0, 1, 2, 1])


def _head(*seen):
    """A head of a training split with these pairs (top, bottom) of ``LABELS``."""
    head = CategoryPairHead(3)
    for top, bottom in seen:
        head.counts[LABELS[top], LABELS[bottom]] += 1
    return head


def _ask(head, *pairs):
    return head(None, None, LABELS, torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2))


def test_it_says_the_smoothed_frequency():
    head = _head((0, 1), (0, 3), (3, 0))
    assert _ask(head, (0, 1)).sigmoid().tolist() == pytest.approx([(2 + 0.5) / (3 + 1)])
    assert _ask(_head((2, 1)), (2, 3)).sigmoid().tolist() == pytest.approx([3 / 4])


def test_the_orders_of_a_pair_add_up_to_one():
    head = _head((0, 1), (0, 3), (3, 0), (2, 1), (1, 3))
    pairs = list(itertools.permutations(range(4), 2))
    forth, back = _ask(head, *pairs), _ask(head, *((j, i) for i, j in pairs))
    assert torch.equal(forth, -back)
    assert forth.isfinite().all()


def test_no_opinion_is_zero():
    assert _ask(_head(), (0, 1)).tolist() == [0]  # never seen
    assert _ask(_head((0, 1), (1, 0)), (0, 1)).tolist() == [0]  # as often as not
    assert _ask(_head((1, 3), (1, 3)), (1, 3)).tolist() == [0]  # one category
    assert _ask(_head()).shape == (0,)


def test_counts_are_kept_with_a_checkpoint_and_by_a_change_of_precision():
    head = _head((0, 1), (2, 1))
    assert list(head.state_dict()) == ["counts"]
    assert not list(head.parameters())
    assert head.half().counts.dtype == torch.int64
    assert _ask(head, (0, 1)).dtype == torch.float32
