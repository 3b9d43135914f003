"""Labels lie inside their segments and never on one another."""

import numpy as np
import pytest

from refine.viz.labels import Label, draw_labels, find_inner_point

BIG = 10_000


def changed(image, labels):
    return (draw_labels(image, labels) != image).any(axis=2)


def test_inner_points_are_inside_whatever_the_shape():
    rng = np.random.default_rng(0)
    for _ in range(200):
        size = rng.integers(1, 150, 2)
        mask = rng.random(size) < rng.choice([0.02, 0.5, 0.99])
        mask.flat[rng.integers(mask.size)] = True
        assert mask[find_inner_point(mask)]


def test_the_inner_point_of_a_rectangle_is_its_middle():
    mask = np.zeros((100, 200), bool)
    mask[20:61, 30:111] = True
    row, column = find_inner_point(mask)
    assert abs(row - 40) <= 2
    assert 50 <= column <= 90


def test_the_inner_point_avoids_a_hole_and_a_thin_arm():
    mask = np.zeros((90, 90), bool)
    mask[10:80, 10:40] = True
    mask[20:70, 15:20] = False
    mask[44, 40:] = True
    row, column = find_inner_point(mask)
    assert mask[row, column]
    assert 22 <= column < 38


def test_one_pixel():
    mask = np.zeros((5, 6), bool)
    mask[4, 5] = True
    assert find_inner_point(mask) == (4, 5)


def test_no_labels_leave_the_image_and_the_input_is_never_changed():
    image = np.full((60, 200, 3), 90, np.uint8)
    assert np.array_equal(draw_labels(image, []), image)
    draw_labels(image, [Label("sofa", 30, 100, BIG)])
    assert (image == 90).all()


def test_a_label_is_written_around_its_point():
    image = np.full((200, 200, 3), 90, np.uint8)
    rows, columns = np.nonzero(changed(image, [Label("sofa", 60, 120, BIG)]))
    assert abs((rows.min() + rows.max()) / 2 - 60) <= 2
    assert abs((columns.min() + columns.max()) / 2 - 120) <= 2


def test_a_second_label_at_the_same_point_moves_by_a_line():
    image = np.full((200, 200, 3), 90, np.uint8)
    label = Label("sofa", 100, 100, BIG)
    one, two = changed(image, [label]), changed(image, [label, label])
    assert two.sum() == pytest.approx(2 * one.sum(), rel=0.05)


def test_a_pile_of_labels_is_cut_off():
    image = np.full((200, 200, 3), 90, np.uint8)
    label = Label("sofa", 100, 100, BIG)
    assert np.array_equal(draw_labels(image, [label] * 5), draw_labels(image, [label] * 9))


@pytest.mark.parametrize(("y", "x"), [(0, 0), (0, 199), (59, 0), (59, 199)])
def test_labels_stay_inside_the_image(y, x):
    image = np.full((60, 200, 3), 90, np.uint8)
    middle = changed(image, [Label("sofa", 30, 100, BIG)]).sum()
    assert changed(image, [Label("sofa", y, x, BIG)]).sum() == pytest.approx(middle, rel=0.15)


def test_labels_larger_than_their_segment_or_the_image_are_left_out():
    image = np.full((60, 200, 3), 90, np.uint8)
    assert not changed(image, [Label("sofa", 30, 100, 50)]).any()
    assert not changed(image[:5, :5], [Label("sofa", 2, 2, BIG)]).any()
