"""Pairs are drawn as they were stacked."""

from dataclasses import dataclass

import numpy as np
import pytest

from refine.categories import Category, CategoryTable
from refine.types import GroundTruth, MaskCrop, Segment
from refine.viz.decisions import Decision, draw_decisions

RED, BLUE = (255, 0, 0), (0, 0, 255)
CATEGORIES = CategoryTable(
    [
        Category(dataset_id=1, name="a", is_thing=True, color=RED),
        Category(dataset_id=2, name="b", is_thing=True, color=BLUE),
    ]
)
SIZE = (100, 200)


@dataclass
class Drawn:
    crop: MaskCrop
    label: int
    score: float = 0.9


def drawn(x, label, *, width=60):
    return Drawn(MaskCrop(20, x, np.ones((60, width), bool)), label)


def decide(upper, lower, is_right=None):
    return Decision(upper=upper, lower=lower, reason="by score", is_right=is_right)


def picture_of(*decisions, truth=None):
    image = np.full((*SIZE, 3), 128, np.uint8)
    return draw_decisions(image, decisions, CATEGORIES, truth=truth)


def middle(picture):
    """Mean colour around the centre of the row's first tile, where both instances lie."""
    tile = picture[48:, :256].astype(int)
    y, x = tile.shape[0] // 4, 128
    return tile[y - 3 : y + 3, x - 3 : x + 3].mean(axis=(0, 1))


def test_the_upper_instance_covers_the_common_pixels():
    red, blue = drawn(50, 0), drawn(80, 1)
    over, under = middle(picture_of(decide(red, blue))), middle(picture_of(decide(blue, red)))
    assert over[0] > over[2] + 100
    assert under[2] > under[0] + 100


def test_the_hidden_outline_of_the_lower_instance_is_seen():
    picture = picture_of(decide(drawn(50, 0), drawn(80, 1)))
    assert (picture[48:, :256] == BLUE).all(axis=-1).sum() > 50


def test_a_row_a_decision_with_the_truth_beside_it():
    truth = GroundTruth(
        segment_map=np.ones(SIZE, np.int32),
        segments=(Segment(id=1, category=0, is_thing=True, area=1),),
    )
    pair = decide(drawn(50, 0), drawn(80, 1), is_right=True)
    one, two = picture_of(pair), picture_of(pair, pair)
    assert one.shape[1] == 256
    assert two.shape[0] == 2 * one.shape[0] + 4
    assert picture_of(pair, truth=truth).shape == (one.shape[0], 2 * 256 + 4, 3)


def test_the_verdict_is_written_in_its_colour():
    pair = drawn(50, 0), drawn(80, 1)
    green = picture_of(decide(*pair, is_right=True))[24:48].astype(int)
    red = picture_of(decide(*pair, is_right=False))[24:48].astype(int)
    grey = picture_of(decide(*pair))[24:48].astype(int)
    assert (green[..., 1] - green[..., 0]).max() > 80
    assert (red[..., 0] - red[..., 1]).max() > 80
    assert np.ptp(grey, axis=-1).max() == 0


@pytest.mark.parametrize("place", [(0, 0, 1, 1), (99, 199, 1, 1), (0, 0, *SIZE)], ids=str)
def test_instances_of_one_pixel_at_the_border_and_as_large_as_the_image(place):
    y, x, height, width = place
    one = Drawn(MaskCrop(y, x, np.ones((height, width), bool)), 0)
    assert picture_of(decide(one, one)).shape[1] == 256


def test_nothing_to_draw_and_a_truth_of_another_size_are_refused():
    with pytest.raises(ValueError, match="no decisions"):
        picture_of()
    small = GroundTruth(segment_map=np.ones((2, 2), np.int32), segments=())
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        picture_of(decide(drawn(0, 0), drawn(1, 1)), truth=small)
