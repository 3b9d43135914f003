"""Shares of pairs that rules get right."""

import pytest
import torch
from torch import nn

from refine.order.pair_accuracy import PairAccuracy, compute_mask_areas, prefer_higher


def _values(metric):
    return {rule: value.item() for rule, value in metric.compute().items()}


def test_right_wrong_and_half():
    metric = PairAccuracy(["area", "score", "srm"])
    nan = float("nan")  # no opinion
    for area, score, srm in (([1.0, -2.0], [3, 4], [nan, 1.0]), ([0.0], [-1], [nan])):
        answers = {"area": area, "score": score, "srm": srm}
        metric.update({rule: torch.tensor(a, dtype=torch.float32) for rule, a in answers.items()})
    assert _values(metric) == pytest.approx({"area": 0.5, "score": 2 / 3, "srm": 2 / 3})
    assert metric.num_pairs == 3
    assert {v.dtype for v in metric.compute().values()} == {torch.float64}
    metric.reset()
    metric.update(dict.fromkeys(answers, torch.zeros(0)))
    assert _values(metric) == dict.fromkeys(answers, 0)
    assert metric.num_pairs == 0


def test_sums_over_processes_equal_one_process():
    torch.manual_seed(0)
    batches = [{rule: torch.randn(k).round() for rule in "ab"} for k in (5, 0, 7, 3)]
    one, first, second = (PairAccuracy("ab") for _ in range(3))
    for k, batch in enumerate(batches):
        one.update(batch)
        (first, second)[k % 2].update(batch)
    first.merge_state(second)
    assert _values(first) == _values(one)
    assert one.num_pairs == first.num_pairs == 15


@pytest.mark.parametrize(
    ("counts", "match"),
    [([2], "answers of"), ([2, 2, 2], "answers of"), ([2, 3], "different numbers")],
)
def test_answers_that_do_not_fit_are_refused(counts, match):
    metric = PairAccuracy(["a", "b"])
    with pytest.raises(ValueError, match=match):
        metric.update(dict(zip("abc", map(torch.ones, counts), strict=False)))
    assert metric.num_pairs == 0


def test_no_conversion_costs_pairs():
    metric = PairAccuracy(["a"])
    metric.update({"a": torch.ones(5000)})
    nn.Sequential(metric).half().to(torch.bfloat16)
    metric.update({"a": -torch.ones(1)})
    assert _values(metric) == {"a": 5000 / 5001}


def test_the_higher_value_is_preferred():
    pairs = torch.tensor([[0, 1], [2, 1], [1, 2], [0, 2]])
    values = torch.tensor([3, 1, 2])
    assert prefer_higher(values, pairs).tolist() == [2, 1, -1, 1]
    assert prefer_higher(values, pairs[:0]).shape == (0,)


def test_areas_of_masks_in_their_boxes():
    masks = torch.tensor([0.5, 0.9, 1.0])[:, None, None].repeat(1, 4, 4)
    masks[1, 2:] = 0
    boxes = torch.tensor([[0.0, 0, 8, 2], [10, 10, 14, 30], [5, 5, 5, 9]])
    assert compute_mask_areas(masks, boxes).tolist() == [16, 40, 0]
    assert compute_mask_areas(masks[:0], boxes[:0]).shape == (0,)
