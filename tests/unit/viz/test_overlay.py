"""Overlays have the right size and say what the maps say."""

from dataclasses import replace

import numpy as np
import pytest

from make.pictures import CAT, CATEGORIES, GRASS, grey_image, prediction, truth
from refine.fusion.merge import Instance
from refine.types import MaskCrop
from refine.viz.overlay import crop_panoptic, draw_panoptic, keep_segments, stack_instances

SIZE = (128, 192)
SEGMENT_MAP = np.repeat([1, 2], 96)[None].repeat(128, 0)  # a cat on the left, grass on the right
SEGMENT_MAP[112:] = 0
SEGMENTS = {1: CAT, 2: GRASS}


def test_segments_are_tinted_with_their_category_and_have_contours():
    image = grey_image(SIZE)
    drawn = draw_panoptic(image, truth(SEGMENT_MAP, SEGMENTS), CATEGORIES, labels=False)
    assert (drawn.shape, drawn.dtype) == (image.shape, np.uint8)
    red, green, void = drawn[40, 40], drawn[40, 150], drawn[120, 100]
    assert red[0] > 150 > red[1]
    assert green[1] > 150 > green[0]
    assert void.max() < 128
    assert drawn[40, 95].min() > 170
    assert drawn[40, 94].min() < 100
    assert np.array_equal(image, grey_image(SIZE))


def test_labels_show_the_score_of_predicted_instances():
    plain = prediction(SEGMENT_MAP, SEGMENTS)
    cat, grass = plain.segments
    scored = replace(plain, segments=(replace(cat, score=0.5), grass))
    without = draw_panoptic(grey_image(SIZE), plain, CATEGORIES, labels=False)
    named, with_score = (draw_panoptic(grey_image(SIZE), p, CATEGORIES) for p in (plain, scored))
    in_cat, in_grass = np.s_[:90, :90], np.s_[:90, 100:]
    assert (named != without)[in_cat].any()
    assert (with_score != without)[in_cat].sum() > (named != without)[in_cat].sum()
    assert np.array_equal(with_score[in_grass], named[in_grass])


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2)], ids=str)
@pytest.mark.parametrize("categories", [{}, {1: CAT}], ids=["void", "cat"])
def test_tiny_images_and_empty_maps(size, categories):
    panoptic = truth(np.full(size, len(categories)), categories)
    assert draw_panoptic(grey_image(size), panoptic, CATEGORIES).shape == (*size, 3)


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"expected \(128, 192, 3\)"):
        draw_panoptic(grey_image((127, 192)), truth(SEGMENT_MAP, SEGMENTS), CATEGORIES)


def test_crops_and_selections_hold_the_segments_that_are_left():
    whole = truth(SEGMENT_MAP, SEGMENTS)
    cropped = crop_panoptic(whole, (slice(3, 9), slice(100, 110)))
    assert cropped.segment_map.shape == (6, 10)
    assert [s.id for s in cropped.segments] == [2]
    kept = keep_segments(whole, {1})
    assert np.array_equal(kept.segment_map, np.where(SEGMENT_MAP == 1, 1, 0))
    assert [s.id for s in kept.segments] == [1]


def test_the_first_instance_lies_on_top_and_hidden_ones_are_left_out():
    boxes = {0.9: (2, 3), 0.8: (1, 2), 0.7: (2, 4)}  # the second is hidden
    instances = [
        Instance(MaskCrop(0, 0, np.ones(size, bool)), CAT, score) for score, size in boxes.items()
    ]
    stacked = stack_instances(instances, (2, 5))
    assert stacked.segment_map.tolist() == [[1, 1, 1, 3, 0]] * 2
    assert [(s.id, s.score, s.area) for s in stacked.segments] == [(1, 0.9, 6), (3, 0.7, 2)]
