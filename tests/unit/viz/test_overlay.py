"""Pictures have the right size and say what the maps say."""

import numpy as np
import pytest

from refine.categories import Category, CategoryTable
from refine.types import GroundTruth, PanopticPrediction, Segment
from refine.viz.overlay import (
    MISSED,
    NOT_JUDGED,
    RIGHT,
    WRONG_CATEGORY,
    WRONG_INSTANCE,
    compare_pixels,
    draw_panoptic,
    draw_triptych,
)

CATEGORIES = CategoryTable(
    [
        Category(dataset_id=1, name="cat", is_thing=True, color=(255, 0, 0)),
        Category(dataset_id=2, name="dog", is_thing=True, color=(0, 0, 255)),
        Category(dataset_id=3, name="grass", is_thing=False, color=(0, 255, 0)),
    ]
)
CAT, DOG, GRASS = range(3)


def as_segments(categories, crowds=()):
    return tuple(
        Segment(id=k, category=c, is_thing=c != GRASS, area=1, is_crowd=k in crowds)
        for k, c in categories.items()
    )


def truth(segment_map, categories, crowds=()):
    return GroundTruth(
        segment_map=np.array(segment_map, np.int32), segments=as_segments(categories, crowds)
    )


def prediction(segment_map, categories):
    return PanopticPrediction(
        segment_map=np.array(segment_map, np.int32), segments=as_segments(categories)
    )


def compare(true, pred, true_categories, pred_categories, crowds=()):
    return compare_pixels(
        truth([true], true_categories, crowds), prediction([pred], pred_categories)
    )[0].tolist()


def scene(height=128, width=192):
    """A cat on the left half, grass on the right, void below."""
    segment_map = np.ones((height, width), np.int32)
    segment_map[:, width // 2 :] = 2
    segment_map[height * 3 // 4 :] = 0
    image = np.full((height, width, 3), 128, np.uint8)
    return image, segment_map, {1: CAT, 2: GRASS}


def test_segments_are_tinted_with_their_category():
    image, segment_map, categories = scene()
    drawn = draw_panoptic(image, truth(segment_map, categories), CATEGORIES, labels=False)
    assert (drawn.shape, drawn.dtype) == (image.shape, np.uint8)
    red, green, void = drawn[40, 40], drawn[40, 150], drawn[120, 100]
    assert red[0] > 150 > red[1]
    assert green[1] > 150 > green[0]
    assert void.max() < 128
    assert np.array_equal(image, scene()[0])


def test_contours_run_between_segments_only():
    image, segment_map, categories = scene()
    drawn = draw_panoptic(image, truth(segment_map, categories), CATEGORIES, labels=False)
    assert drawn[40, 95].min() > 170
    assert drawn[40, 94].min() < 100


def test_labels_show_the_score_of_predicted_instances():
    image, segment_map, categories = scene()
    plain = prediction(segment_map, categories)
    scored = PanopticPrediction(
        segment_map=plain.segment_map,
        segments=(
            Segment(id=1, category=CAT, is_thing=True, area=1, score=0.5),
            plain.segments[1],
        ),
    )
    without = draw_panoptic(image, plain, CATEGORIES, labels=False)
    named = draw_panoptic(image, plain, CATEGORIES)
    with_score = draw_panoptic(image, scored, CATEGORIES)
    in_cat, in_grass = np.s_[:90, :90], np.s_[:90, 100:]
    assert (named != without)[in_cat].any()
    assert (with_score != without)[in_cat].sum() > (named != without)[in_cat].sum()
    assert np.array_equal(with_score[in_grass], named[in_grass])


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2)])
def test_tiny_images_and_empty_maps(size):
    image = np.zeros((*size, 3), np.uint8)
    for segment_map, categories in ((np.zeros(size), {}), (np.ones(size), {1: CAT})):
        drawn = draw_panoptic(image, truth(segment_map, categories), CATEGORIES)
        assert drawn.shape == image.shape


def test_an_image_of_another_size_is_refused():
    _, segment_map, categories = scene()
    with pytest.raises(ValueError, match=r"expected \(128, 192, 3\)"):
        draw_panoptic(np.zeros((127, 192, 3), np.uint8), truth(segment_map, categories), CATEGORIES)


def test_each_kind_of_disagreement():
    assert compare(
        [1, 1, 2, 2, 3, 0],
        [1, 1, 2, 0, 1, 1],
        {1: CAT, 2: GRASS, 3: DOG},
        {1: CAT, 2: GRASS},
    ) == [RIGHT, RIGHT, RIGHT, MISSED, WRONG_CATEGORY, NOT_JUDGED]


def test_two_instances_predicted_as_one():
    got = compare([1, 1, 1, 2, 2], [1] * 5, {1: CAT, 2: CAT}, {1: CAT})
    assert got == [RIGHT] * 3 + [WRONG_INSTANCE] * 2


def test_one_instance_predicted_as_two():
    got = compare([1] * 5, [1, 1, 2, 2, 2], {1: CAT}, {1: CAT, 2: CAT})
    assert got == [WRONG_INSTANCE] * 2 + [RIGHT] * 3


def test_overlaps_across_categories_do_not_pair():
    # most of prediction 1 lies on the dog, but its cat is the only one there
    got = compare([1, 2, 2, 2], [1, 1, 1, 1], {1: CAT, 2: DOG}, {1: CAT})
    assert got == [RIGHT] + [WRONG_CATEGORY] * 3


def test_on_a_crowd_the_category_is_enough():
    got = compare([1] * 4, [1, 2, 2, 3], {1: CAT}, {1: CAT, 2: CAT, 3: DOG}, crowds={1})
    assert got == [RIGHT] * 3 + [WRONG_CATEGORY]


def test_nothing_predicted_and_nothing_to_judge():
    assert compare([1, 1], [0, 0], {1: CAT}, {}) == [MISSED] * 2
    assert compare([0, 0], [1, 0], {}, {1: CAT}) == [NOT_JUDGED] * 2


@pytest.mark.parametrize(
    ("size", "panel"),
    [
        ((128, 192), (256, 384)),
        ((1, 1), (384, 384)),
        ((50, 700), (50, 700)),
        ((4096, 2), (4096, 2)),
    ],
)
def test_panels_are_enlarged_to_a_readable_width(size, panel):
    image, segment_map, categories = scene(*size)
    drawn = draw_triptych(
        image, truth(segment_map, categories), prediction(segment_map, categories), CATEGORIES
    )
    height, width, _ = drawn.shape
    assert drawn.dtype == np.uint8
    assert panel[0] < height <= panel[0] + 32
    assert 4 * panel[1] < width <= 4 * panel[1] + 32


def test_the_last_panel_shows_errors_and_only_errors():
    image, segment_map, categories = scene()
    true = truth(segment_map, categories)

    def saturated(pred_categories):
        pred = prediction(segment_map, pred_categories)
        drawn = draw_triptych(image, true, pred, CATEGORIES)[40:, -384:].astype(int)
        return np.ptp(drawn, axis=2) > 40

    assert not saturated(categories).any()
    wrong = saturated({1: DOG, 2: GRASS})
    assert wrong[:100, :180].all()
    assert not wrong[:, 200:].any()
