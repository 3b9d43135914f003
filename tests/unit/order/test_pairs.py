"""Which pairs are asked about and trained on, and what heads read of them."""

import pytest
import torch

from make.batches import make_observation, make_target
from refine.fusion.evidence import Evidence
from refine.options import MergeOptions
from refine.order.pairs import choose_pairs, draw_pairs, find_predicted_pairs, gather_pairs

A, B, FAR = [0, 0, 20, 20], [10, 0, 30, 20], [40, 40, 60, 60]


@pytest.mark.parametrize(
    ("boxes", "scores", "thresh", "expected"),
    [
        ([A, FAR, B], [0.9, 0.8, 0.7], 0.5, [[0, 2], [2, 0]]),
        ([A, B], [0.9, 0.31], 0.5, [[0, 1], [1, 0]]),
        ([A, B], [0.9, 0.29], 0.5, []),  # too weak
        ([A, B], [0.9, 0.29], 0.2, [[0, 1], [1, 0]]),  # weak but merged
        ([A, [19.9, 0, 40, 20]], [0.9, 0.8], 0.5, []),  # slight overlap
        ([A, A], [0.9, 0.9], 0.5, [[0, 1], [1, 0]]),
    ],
)
def test_overlapping_detections_are_asked_about_in_both_orders(boxes, scores, thresh, expected):
    raw = make_observation(boxes, [0] * len(boxes), scores).raw
    pairs = choose_pairs(Evidence(raw, num_things=3), MergeOptions(score_thresh=thresh))
    assert pairs.tolist() == expected


@pytest.mark.parametrize(
    ("boxes", "labels", "expected"),
    [
        ([B, A], [1, 0], [[1, 0]]),  # detections in another order
        ([A, A, B], [0, 0, 1], [[0, 2], [1, 2]]),  # two stand for the same instance
        ([A, B], [1, 1], []),  # another category
        ([A, FAR], [0, 1], []),  # one is not found
        ([[0, 0, 8, 20], B], [0, 1], []),  # IoU .4
        ([], [], []),
    ],
)
def test_predicted_pairs_stand_for_true_ones(boxes, labels, expected):
    target = make_target([A, B, FAR], [0, 1, 1], pairs=[[0, 1]])
    found = find_predicted_pairs(make_observation(boxes, labels), target)
    assert found.tolist() == expected


def test_no_instances_no_pairs():
    seen = make_observation([A], [0])
    assert find_predicted_pairs(seen, make_target([], [], pairs=[])).shape == (0, 2)
    with pytest.raises(ValueError, match="no occlusion pairs"):
        find_predicted_pairs(seen, make_target([], []))


def test_images_are_joined_with_only_what_pairs_need():
    first = make_observation([A, FAR, B], [0, 1, 2], shade=1.0)
    second = make_observation([A, B], [1, 0], shade=2.0)
    seen = gather_pairs([first, second], [torch.tensor([[2, 0]]), torch.tensor([[0, 1]])])
    assert seen.pairs.tolist() == [[1, 0], [2, 3]]
    assert seen.labels.tolist() == [0, 2, 1, 0]
    assert seen.features[:, 0, 0, 0].tolist() == [1, 1, 2, 2]
    assert seen.boxes.tolist() == [A, B, A, B]
    none = gather_pairs([make_observation([A], [0])], [torch.zeros((0, 2), dtype=torch.int64)])
    assert none.pairs.shape == (0, 2)
    assert none.features.shape == (0, 2, 14, 14)


@pytest.mark.parametrize(("count", "expected"), [(3, 3), (8, 8), (20, 8)])
def test_no_more_pairs_are_drawn_than_asked_for(count, expected):
    pairs = torch.arange(16).reshape(8, 2)
    drawn = draw_pairs(pairs, count, torch.Generator().manual_seed(0))
    found = {tuple(p) for p in drawn.tolist()}
    assert len(found) == expected
    assert found <= {tuple(p) for p in pairs.tolist()}
