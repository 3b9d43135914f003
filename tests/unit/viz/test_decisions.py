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


def find(*boxes, owner=None, limit=9, occlusions=None, **relations):
    """Decisions about rectangles; in the ground truth, LEFT (1) or RIGHT (2) owns what they share.

    Every box after the second is a cat.
    """
    labels = [CAT, DOG, CAT][: len(boxes)]
    raw = rectangles(*boxes, size=SIZE, labels=labels, occlusions=occlusions or {})
    segment_map = np.ones(SIZE, np.int32)
    segment_map[:, (48 if owner == 1 else 32) :] = 2
    true = None if owner is None else truth(segment_map, {1: CAT, 2: DOG})
    options = FusionOptions(relations=RelationsOptions(**relations))
    return find_decisions(Evidence(raw, num_things=2), options, true, limit=limit)


HEAD = PairOcclusions(pairs=torch.tensor([[0, 1], [1, 0]]), probabilities=torch.tensor([0.2, 0.7]))


@pytest.mark.parametrize(
    ("settings", "upper", "reason"),
    [
        ({}, CAT, "by score, scores 0.90 / 0.80"),
        ({"occlusions": {"strong": HEAD}}, CAT, "by score, O(strong) 0.20, scores 0.90 / 0.80"),
        (
            {"occlusions": {"strong": HEAD}, "kind": "occlusion", "head": "strong"},
            DOG,
            "by occlusion, O(strong) 0.70, scores 0.80 / 0.90",
        ),
        ({"kind": "shr", "shr_box_frac": 0.9}, CAT, "by score (shr abstains), scores 0.90 / 0.80"),
    ],
    ids=["score", "a head that is not asked", "a head", "no opinion"],
)
def test_a_decision_and_its_reason(settings, upper, reason):
    (decision,) = find(LEFT, RIGHT, **settings)
    assert (decision.upper.label, decision.reason) == (upper, reason)
    assert decision.is_right is None


@pytest.mark.parametrize(("owner", "is_right"), [(1, True), (2, False)])
def test_decisions_are_judged_by_the_ground_truth(owner, is_right):
    (decision,) = find(LEFT, RIGHT, owner=owner)
    assert decision.is_right is is_right


def test_the_largest_common_areas_come_first():
    found = find(LEFT, RIGHT, NEARLY_LEFT, overlap_thresh=0.1)
    assert [{d.upper.index, d.lower.index} for d in found] == [{0, 2}, {0, 1}, {1, 2}]
    assert len(find(LEFT, RIGHT, NEARLY_LEFT, limit=1)) == 1


@pytest.mark.parametrize("boxes", [(), (LEFT,), (LEFT, (60, 0, 90, 20))], ids=len)
def test_nothing_overlaps(boxes):
    assert find(*boxes, owner=1) == []


def instance(x, label=CAT, *, y=20, size=(60, 60)):
    return Instance(MaskCrop(y, x, np.ones(size, bool)), label, 0.9)


def draw(*pairs, is_right=None, **kwargs):
    decisions = [
        Decision(upper=upper, lower=lower, reason="by score", is_right=is_right)
        for upper, lower in pairs
    ]
    return draw_decisions(grey_image((100, 200)), decisions, CATEGORIES, **kwargs)


PAIR = instance(50, CAT), instance(80, DOG)


def middle(picture):
    """Mean colour around the centre of the row's first tile, where both instances lie."""
    tile = picture[48:, :256].astype(int)
    y, x = tile.shape[0] // 4, 128
    return tile[y - 3 : y + 3, x - 3 : x + 3].mean(axis=(0, 1))


def test_the_upper_instance_covers_the_lower_one_except_its_hidden_outline():
    over, under = middle(draw(PAIR)), middle(draw(PAIR[::-1]))
    assert over[0] > over[2] + 100
    assert under[2] > under[0] + 100
    assert (draw(PAIR)[48:, :256] == BLUE).all(axis=-1).sum() > 50


def test_one_row_per_decision_with_the_truth_beside_it():
    one, two = draw(PAIR), draw(PAIR, PAIR)
    assert one.shape[1] == 256
    assert two.shape[0] == 2 * one.shape[0] + 4
    true = truth(np.ones((100, 200)), {1: CAT})
    assert draw(PAIR, truth=true).shape == (one.shape[0], 2 * 256 + 4, 3)


@pytest.mark.parametrize(("is_right", "channel"), [(True, 1), (False, 0), (None, None)])
def test_the_verdict_is_written_in_its_colour(is_right, channel):
    words = draw(PAIR, is_right=is_right)[24:48].astype(int)
    if channel is None:
        assert np.ptp(words, axis=-1).max() == 0
    else:
        assert (words[..., channel] - words[..., 1 - channel]).max() > 80


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
