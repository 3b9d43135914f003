"""NMS of a whole batch at once is the greedy one, box after box."""

import pytest
import torch

from make.device import count_waits
from refine.ops.nms import select_at_once, select_by_nms


def _boxes(images, count, *, span=60.0, seed=0):
    """Many that overlap, in random order of scores."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(images, count, 2, generator=generator) * span
    extent = 4 + 30 * torch.rand(images, count, 2, generator=generator)
    candidates = torch.rand(images, count, generator=generator) > 0.1
    return torch.cat([corner, corner + extent], dim=2), candidates


def _scores(images, counts, seed=0):
    generator = torch.Generator().manual_seed(seed)
    levels = [torch.randn(images, n, generator=generator).sort(1, descending=True) for n in counts]
    return torch.cat([level.values for level in levels], dim=1)


@pytest.mark.parametrize("iou_thresh", [0.3, 0.7])
@pytest.mark.parametrize(("counts", "limit"), [((80, 50, 3), 1000), ((80, 50), 11), ((1,), 5)])
def test_both_forms_select_the_same(counts, limit, iou_thresh):
    boxes, candidates = _boxes(3, sum(counts))
    options = {"counts": counts, "iou_thresh": iou_thresh, "limit": limit}
    arguments = (boxes, _scores(3, counts), candidates)
    expected, found = (f(*arguments, **options) for f in (select_by_nms, select_at_once))
    assert found.index.tolist() == expected.index.tolist()
    assert found.counts == expected.counts
    assert max(expected.counts) <= limit


@pytest.mark.parametrize("count", [60, 1500])  # torchvision has another form for many boxes
def test_equal_scores_keep_the_order_of_the_boxes(count):
    counts = (count, count // 2)
    boxes, candidates = _boxes(2, sum(counts), span=6.0 * count)
    scores = _scores(2, counts).round()  # levels share most of their scores
    options = {"counts": counts, "iou_thresh": 0.5, "limit": count}
    expected, found = (
        f(boxes, scores, candidates, **options) for f in (select_by_nms, select_at_once)
    )
    assert expected.index.tolist() == found.index.tolist()
    for of_image in torch.split(expected.index, expected.counts):
        keys = [(-float(scores.flatten()[k]), int(k)) for k in of_image]
        assert keys == sorted(keys)
        assert len({score for score, _ in keys}) < len(keys) / 3


def test_a_long_chain_in_which_every_other_box_survives():
    begin = torch.arange(40.0)[:, None] * torch.tensor([[1.0, 0, 1, 0]])
    boxes = (torch.tensor([[0.0, 0, 3, 3]]) + begin)[None]  # IoU 1/2 with the next, 1/5 after that
    scores = torch.arange(40.0).flip(0)[None]
    options = {"counts": [40], "iou_thresh": 0.4, "limit": 100}
    everyone = torch.ones(1, 40, dtype=torch.bool)
    for form in (select_by_nms, select_at_once):
        found = form(boxes, scores, everyone, **options)
        assert found.index.tolist() == list(range(0, 40, 2))


def test_no_candidates():
    boxes, candidates = _boxes(2, 5)
    options = {"counts": [3, 2], "iou_thresh": 0.5, "limit": 4}
    for form in (select_by_nms, select_at_once):
        found = form(boxes, _scores(2, (3, 2)), candidates & False, **options)
        assert found.counts == [0, 0]


def test_a_device_is_waited_for_as_seldom_for_many_images_as_for_one():
    totals = []
    for images in (1, 8):
        boxes, candidates = _boxes(images, 100)
        module = torch.nn.ParameterList(
            torch.nn.Parameter(t, requires_grad=False)
            for t in (boxes, _scores(images, (100,)), candidates)
        )
        options = {"counts": [100], "iou_thresh": 0.7, "limit": 100}
        waits = count_waits(module, lambda m=module, o=options: select_by_nms(*m, **o))
        totals.append(sum(waits.values()))
    assert totals == [2, 2]  # whether anything has changed, the numbers of survivors
