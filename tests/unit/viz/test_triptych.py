"""Ground truth | prediction | errors: the right size, the right colours, always the same."""

import numpy as np
import pytest

from refine.categories import Category, CategoryTable
from refine.types import GroundTruth, PanopticPrediction, Segment
from refine.viz.panels import find_fit, pad_to_one_size, resize_map
from refine.viz.triptych import FALSE_POSITIVE, MISSED, draw_error_triptych

CATEGORIES = CategoryTable(
    [
        Category(dataset_id=1, name="cat", is_thing=True, color=(90, 90, 90)),
        Category(dataset_id=2, name="grass", is_thing=False, color=(60, 60, 60)),
    ]
)
CAT, GRASS = range(2)


def segments(*ids):
    return tuple(Segment(id=k, category=GRASS, is_thing=False, area=1) for k in ids)


def draw(true_map, pred_map, *, wrong=(), missed=(), image=None, **kwargs):
    true_map, pred_map = np.array(true_map, np.int32), np.array(pred_map, np.int32)
    true = GroundTruth(segment_map=true_map, segments=segments(*np.setdiff1d(true_map, 0).tolist()))
    pred = PanopticPrediction(
        segment_map=pred_map, segments=segments(*np.setdiff1d(pred_map, 0).tolist())
    )
    image = np.full((*true_map.shape, 3), 128, np.uint8) if image is None else image
    return draw_error_triptych(image, true, pred, CATEGORIES, wrong=wrong, missed=missed, **kwargs)


def last_panel(picture, size):
    return picture[-size[0] :, -size[1] :].astype(int)


def leans(pixels, color):
    """Share of the pixels in which the colour's strongest channel is clearly the strongest."""
    channel = int(np.argmax(color))
    others = np.delete(pixels, channel, axis=-1).max(axis=-1)
    return float((pixels[..., channel] > others + 40).mean())


def test_false_positives_are_red_misses_blue_and_the_rest_grey():
    segment_map = np.repeat(np.repeat([[1, 2, 3]], 128, axis=1), 200, axis=0)
    panel = last_panel(draw(segment_map, segment_map, wrong=[1], missed=[2]), (200, 384))
    left, middle, right = panel[:, 5:123], panel[:, 133:251], panel[:, 261:379]
    assert leans(left, FALSE_POSITIVE) > 0.9
    assert leans(left, MISSED) == 0
    assert leans(middle, MISSED) > 0.9
    assert leans(middle, FALSE_POSITIVE) == 0
    assert np.ptp(right, axis=-1).max() == 0


def test_a_pixel_that_is_both_has_stripes():
    segment_map = np.ones((384, 384))
    panel = last_panel(draw(segment_map, segment_map, wrong=[1], missed=[1]), (384, 384))
    assert 0.35 < leans(panel, FALSE_POSITIVE) < 0.6
    assert 0.35 < leans(panel, MISSED) < 0.6


def test_the_same_input_gives_the_same_picture():
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 4, (2, 40, 60))
    image = rng.integers(0, 255, (40, 60, 3)).astype(np.uint8)
    pictures = [draw(*maps, wrong={3, 1}, missed={2, 1}, image=image) for _ in range(2)]
    assert np.array_equal(*pictures)


@pytest.mark.parametrize("size", [(1, 1), (300, 2), (700, 3), (90, 1400)], ids=str)
@pytest.mark.parametrize("value", [0, 1], ids=["all void", "one segment"])
def test_any_size_and_no_segments(size, value):
    segment_map = np.full(size, value)
    picture = draw(segment_map, segment_map, wrong=[1], missed=[], max_side_px=640)
    assert picture.dtype == np.uint8
    assert picture.shape[0] <= 640 + 24
    assert picture.shape[1] <= 3 * 640 + 8


def test_maps_of_another_size_than_the_image_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        draw(np.ones((2, 2)), np.ones((2, 3)), image=np.zeros((2, 2, 3), np.uint8))


@pytest.mark.parametrize(
    ("size", "fit"),
    [
        ((128, 192), (256, 384)),
        ((480, 640), (480, 640)),
        ((960, 1280), (480, 640)),
        ((1280, 1), (640, 1)),
        ((300, 100), (600, 200)),
    ],
    ids=str,
)
def test_panels_fit(size, fit):
    assert find_fit(*size, max_side_px=640) == fit


def test_maps_are_resized_to_the_nearest_id():
    segment_map = np.array([[1, 2], [3, 4]])
    assert resize_map(segment_map, (4, 6))[::2, ::3].tolist() == segment_map.tolist()
    assert resize_map(np.arange(9).reshape(3, 3), (1, 1)).tolist() == [[4]]


def test_pictures_of_one_list_are_of_one_size():
    small, wide = np.ones((2, 3, 3), np.uint8), np.ones((1, 5, 3), np.uint8)
    padded = pad_to_one_size([small, wide])
    assert [p.shape for p in padded] == [(2, 5, 3)] * 2
    assert np.array_equal(padded[0][:, :3], small)
    assert padded[0][:, 3:].sum() == padded[1][1:].sum() == 0
