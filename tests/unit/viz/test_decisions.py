"""Pairs are listed as the fusion decides them, and drawn as they were stacked."""

import numpy as np
import pytest
import torch

from make.pictures import BLUE, CAT, CATEGORIES, DOG, grey_image, rectangles, truth
from refine.fusion.evidence import Evidence
from refine.fusion.merge import Instance
from refine.options import FusionOptions, RelationsOptions
from refine.types import MaskCrop, PairOcclusions
from refine.viz.decisions import Decision, draw_decisions, find_decisions

SIZE = (64, 96)
LEFT, RIGHT = (0, 0, 48, 64), (32, 0, 96, 64)  # they share a third of LEFT
NEARLY_LEFT = (0, 0, 44, 64)
HEAD = PairOcclusions(pairs=torch.tensor([[0, 1], [1, 0]]), probabilities=torch.tensor([0.2, 0.7]))


def find(*boxes, owner=None, limit=9, occlusions=None, **relations):
    """Decisions about a cat, a dog, a cat; in the truth 1 or 2 owns what LEFT and RIGHT share."""
    labels = [CAT, DOG, CAT][: len(boxes)]
    raw = rectangles(*boxes, size=SIZE, labels=labels, occlusions=occlusions or {})
    segment_map = np.ones(SIZE, np.int32)
    segment_map[:, (48 if owner == 1 else 32) :] = 2
    true = None if owner is None else truth(segment_map, {1: CAT, 2: DOG})
    options = FusionOptions(relations=RelationsOptions(**relations))
    return find_decisions(Evidence(raw, num_things=2), options, true, limit=limit)


@pytest.mark.parametrize(
    ("settings", "upper", "reason"),
    [
        ({}, CAT, "by score, scores 0.90 / 0.80"),
        ({"occlusions": {"a": HEAD}}, CAT, "by score, O(a) 0.20, scores 0.90 / 0.80"),
        (
            {"occlusions": {"a": HEAD}, "kind": "occlusion", "head": "a"},
            DOG,
            "by occlusion, O(a) 0.70, scores 0.80 / 0.90",
        ),
        ({"kind": "shr", "shr_box_frac": 0.9}, CAT, "by score (shr abstains), scores 0.90 / 0.80"),
    ],
    ids=["score", "a head that is not asked", "a head", "no opinion"],
)
def test_a_decision_and_its_reason(settings, upper, reason):
    (decision,) = find(LEFT, RIGHT, **settings)
    assert (decision.upper.label, decision.reason) == (upper, reason)


def test_decisions_are_judged_by_the_ground_truth():
    judged = [find(LEFT, RIGHT, owner=owner)[0].is_right for owner in (1, 2, None)]
    assert judged == [True, False, None]


def test_the_largest_common_areas_come_first():
    found = find(LEFT, RIGHT, NEARLY_LEFT, overlap_thresh=0.1)
    assert [{d.upper.index, d.lower.index} for d in found] == [{0, 2}, {0, 1}, {1, 2}]
    assert len(find(LEFT, RIGHT, NEARLY_LEFT, limit=1)) == 1


@pytest.mark.parametrize("boxes", [(), (LEFT,), (LEFT, (60, 0, 90, 20))], ids=len)
def test_nothing_overlaps(boxes):
    assert find(*boxes, owner=1) == []


def instance(x, label=CAT, *, y=20, size=(60, 60)):
    return Instance(MaskCrop(y, x, np.ones(size, bool)), label, 0.9)


PAIR = instance(50, CAT), instance(80, DOG)


def draw(*pairs, is_right=None, **kwargs):
    decisions = [Decision(upper=a, lower=b, reason="by area", is_right=is_right) for a, b in pairs]
    return draw_decisions(grey_image((100, 200)), decisions, CATEGORIES, **kwargs)


def test_the_upper_instance_covers_the_lower_one_except_its_hidden_outline():
    rows, where_both_lie = draw(PAIR, PAIR[::-1]), np.s_[76:82, 125:131]
    over, under = (row[where_both_lie].mean(axis=(0, 1)) for row in (rows, rows[len(rows) // 2 :]))
    assert over[0] > over[2] + 100
    assert under[2] > under[0] + 100
    assert (draw(PAIR)[48:, :256] == BLUE).all(axis=-1).sum() > 50


def test_one_row_per_decision_with_the_truth_beside_it():
    one, two = draw(PAIR), draw(PAIR, PAIR)
    assert one.shape[1] == 256
    assert two.shape[0] == 2 * one.shape[0] + 4
    true = truth(np.ones((100, 200)), {1: CAT})
    assert draw(PAIR, truth=true).shape == (one.shape[0], 2 * 256 + 4, 3)


def test_the_verdict_is_written_in_its_colour():
    right, wrong, unknown = (draw(PAIR, is_right=v)[24:48].astype(int) for v in (True, False, None))
    assert (right[..., 1] - right[..., 0]).max() > 80
    assert (wrong[..., 0] - wrong[..., 1]).max() > 80
    assert np.ptp(unknown, axis=-1).max() == 0


@pytest.mark.parametrize("place", [(0, 0, 1, 1), (99, 199, 1, 1), (0, 0, 100, 200)], ids=str)
def test_instances_of_one_pixel_at_the_border_and_as_large_as_the_image(place):
    y, x, height, width = place
    one = instance(x, y=y, size=(height, width))
    assert draw((one, one)).shape[1] == 256


def test_nothing_to_draw_and_a_truth_of_another_size_are_refused():
    with pytest.raises(ValueError, match="no decisions"):
        draw()
    with pytest.raises(ValueError, match=r"\(2, 2, 3\)"):
        draw(PAIR, truth=truth(np.ones((2, 2)), {}))
