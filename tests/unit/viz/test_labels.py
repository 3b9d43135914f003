"""Labels are inside their segments and never on one another."""

import numpy as np
import pytest

from make.pictures import grey_image
from refine.viz.labels import Label, draw_labels, find_inner_point

IMAGE = grey_image((200, 200))
WIDE = grey_image((60, 200))


def changed(image, *labels):
    before = image.copy()
    drawn = (draw_labels(image, labels) != image).any(axis=2)
    assert np.array_equal(image, before)
    return drawn


def sofa(y, x, area=10_000):
    return Label("sofa", y, x, area)


def test_inner_points_are_inside_whatever_the_shape():
    rng = np.random.default_rng(0)
    for _ in range(200):
        size = rng.integers(1, 150, 2)
        mask = rng.random(size) < rng.choice([0.0, 0.02, 0.5, 0.99])
        mask.flat[rng.integers(mask.size)] = True
        assert mask[find_inner_point(mask)]


def test_the_inner_point_is_in_the_middle_away_from_holes_and_thin_arms():
    mask = np.zeros((100, 200), bool)
    mask[20:61, 30:111] = True
    row, column = find_inner_point(mask)
    assert abs(row - 40) <= 2
    assert 50 <= column <= 90
    mask = np.zeros((90, 90), bool)
    mask[10:80, 10:40] = True
    mask[20:70, 15:20] = False
    mask[44, 40:] = True
    row, column = find_inner_point(mask)
    assert mask[row, column]
    assert 22 <= column < 38


def test_a_label_is_written_around_its_point():
    rows, columns = np.nonzero(changed(IMAGE, sofa(60, 120)))
    assert abs((rows.min() + rows.max()) / 2 - 60) <= 2
    assert abs((columns.min() + columns.max()) / 2 - 120) <= 2


def test_labels_at_the_same_point_move_by_a_line_and_a_pile_is_cut_off():
    one, two, five, nine = (changed(IMAGE, *[sofa(100, 100)] * count) for count in (1, 2, 5, 9))
    assert two.sum() == pytest.approx(2 * one.sum(), rel=0.05)
    assert np.array_equal(five, nine)


@pytest.mark.parametrize(("y", "x"), [(0, 0), (0, 199), (59, 0), (59, 199)])
def test_labels_stay_inside_the_image(y, x):
    middle = changed(WIDE, sofa(30, 100)).sum()
    assert changed(WIDE, sofa(y, x)).sum() == pytest.approx(middle, rel=0.15)


def test_labels_larger_than_their_segment_or_the_image_are_left_out():
    assert not changed(WIDE, sofa(30, 100, area=50)).any()
    assert not changed(WIDE[:5, :5], sofa(2, 2)).any()
