"""Prediction beside ground truth: the right size, the right colours, the right errors."""

import numpy as np
import pytest

from make.pictures import CAT, CATEGORIES, DOG, GRASS, grey_image, prediction, truth
from refine.viz.comparison import (
    BLUE,
    MISSED,
    NOT_JUDGED,
    RED,
    RIGHT,
    WRONG_CATEGORY,
    WRONG_INSTANCE,
    compare_pixels,
    draw_pixel_comparison,
    draw_segment_comparison,
)


@pytest.mark.parametrize(
    ("true", "pred", "true_categories", "pred_categories", "crowds", "expected"),
    [
        (
            [1, 1, 2, 2, 3, 0], [1, 1, 2, 0, 1, 1],
            {1: CAT, 2: GRASS, 3: DOG}, {1: CAT, 2: GRASS}, {},
            [RIGHT, RIGHT, RIGHT, MISSED, WRONG_CATEGORY, NOT_JUDGED],
        ),
        ([1, 1, 2], [1] * 3, {1: CAT, 2: CAT}, {1: CAT}, {}, [RIGHT] * 2 + [WRONG_INSTANCE]),
        ([1] * 3, [1, 2, 2], {1: CAT}, {1: CAT, 2: CAT}, {}, [WRONG_INSTANCE] + [RIGHT] * 2),
        # most of prediction 1 lies on the dog, but its cat is the only one there
        ([1, 2, 2, 2], [1] * 4, {1: CAT, 2: DOG}, {1: CAT}, {}, [RIGHT] + [WRONG_CATEGORY] * 3),
        ([1, 1], [0, 0], {1: CAT}, {}, {}, [MISSED] * 2),
        ([0, 0], [1, 0], {}, {1: CAT}, {}, [NOT_JUDGED] * 2),
        # on a crowd the category is enough
        (
            [1] * 4, [1, 2, 2, 3], {1: CAT}, {1: CAT, 2: CAT, 3: DOG}, {1},
            [RIGHT] * 3 + [WRONG_CATEGORY],
        ),
    ],
    ids=["each kind", "two as one", "one as two", "across categories", "missed", "void", "crowd"],
)  # fmt: skip
def test_pixels_that_disagree(true, pred, true_categories, pred_categories, crowds, expected):
    scene = truth([true], true_categories, crowds)
    assert compare_pixels(scene, prediction([pred], pred_categories))[0].tolist() == expected


def draw(true, pred, size, draw=draw_segment_comparison, **kwargs):
    """Two maps of categories + 1, stretched to a size."""
    scenes = []
    for make, values in ((truth, true), (prediction, pred)):
        stretched = np.kron(values, np.ones(np.floor_divide(size, np.shape(values)), int))
        scenes.append(make(stretched, {k: k - 1 for k in set(stretched.flat) - {0}}))
    return draw(grey_image(size), *scenes, CATEGORIES, **kwargs)


def test_four_panels_of_which_the_last_shows_wrong_pixels_and_only_those():
    for left, is_wrong in ((CAT, False), (DOG, True)):
        true, pred = [[CAT + 1, GRASS + 1]], [[left + 1, GRASS + 1]]
        picture = draw(true, pred, (128, 192), draw_pixel_comparison)
        assert picture.shape == (256 + 24, 4 * 384 + 3 * 4, 3)
        saturated = np.ptp(picture[40:, -384:].astype(int), axis=2) > 40
        assert (saturated[:, :180] == is_wrong).all()
        assert not saturated[:, 200:].any()


def leans(pixels, color):
    """Share of the pixels in which the colour's strongest channel is clearly the strongest."""
    channel = int(np.argmax(color))
    others = np.delete(pixels.astype(int), channel, axis=-1).max(axis=-1)
    return float((pixels[..., channel] > others + 40).mean())


def test_false_positives_are_red_misses_blue_both_striped_and_the_rest_grey():
    picture = draw([[3, 3, 3, 3, 2, 1]], [[1, 3, 3, 3, 0, 2]], (200, 600))[-200:, -600:]
    wrong, matched, missed, both = (picture[:, k * 100 + 5 : k * 100 + 95] for k in (0, 2, 4, 5))
    assert leans(wrong, RED) > 0.9
    assert leans(missed, BLUE) > 0.9
    assert leans(wrong, BLUE) == leans(missed, RED) == 0
    assert 0.35 < leans(both, RED) < 0.6
    assert 0.35 < leans(both, BLUE) < 0.6
    assert np.ptp(matched.astype(int), axis=-1).max() == 0


@pytest.mark.parametrize("size", [(1, 1), (300, 2), (700, 3), (90, 1400)], ids=str)
@pytest.mark.parametrize("value", [0, 1], ids=["all void", "one segment"])
def test_any_size_and_no_segments(size, value):
    picture = draw([[value]], [[1]], size, max_side_px=640)
    assert picture.shape[0] <= 640 + 24
    assert picture.shape[1] <= 3 * 640 + 8


@pytest.mark.parametrize("draw", [draw_pixel_comparison, draw_segment_comparison])
@pytest.mark.parametrize("width", [2, 3])
def test_maps_of_another_size_than_the_image_are_refused(draw, width):
    true, pred = truth(np.zeros((2, width)), {}), prediction(np.zeros((2, 5 - width)), {})
    with pytest.raises(ValueError, match=r"expected \(2, 3, 3\)"):
        draw(grey_image((2, 2)), true, pred, CATEGORIES)
