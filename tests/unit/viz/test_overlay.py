"""Overlays say what the maps say: colours, contours, and labels that never pile up."""

from dataclasses import replace

import numpy as np
import pytest

from make.pictures import CAT, CATEGORIES, DOG, GRASS, grey_image, prediction, truth
from oracles import overlay
from refine.fusion.merge import Instance
from refine.options import OverlayOptions
from refine.types import GroundTruth, MaskCrop, Segment
from refine.viz.labels import Label, draw_labels, find_inner_point, segment_labels
from refine.viz.overlay import crop_panoptic, draw_panoptic, keep_segments, stack_instances
from refine.viz.palette import VOID_COLOR, segment_colors

SIZE = (128, 192)
IMAGE = grey_image(SIZE)
SEGMENT_MAP = np.repeat([1, 2], 96)[None].repeat(128, 0)  # a cat on the left, grass on the right
SEGMENT_MAP[112:] = 0
SEGMENTS = {1: CAT, 2: GRASS}


def test_segments_are_tinted_with_their_category_and_have_contours():
    drawn = draw_panoptic(IMAGE, truth(SEGMENT_MAP, SEGMENTS), CATEGORIES, labels=False)
    red, green, void = drawn[40, 40], drawn[40, 150], drawn[120, 100]
    assert red[0] > 150 > red[1]
    assert green[1] > 150 > green[0]
    assert void.max() < 128
    assert drawn[40, 95].min() > 170
    assert drawn[40, 94].min() < 100
    unknown = draw_panoptic(IMAGE, truth(SEGMENT_MAP, {1: CAT}), CATEGORIES, labels=False)
    assert (unknown[40, 150] == void).all()
    assert np.array_equal(IMAGE, grey_image(SIZE))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (70, 33)], ids=str)
@pytest.mark.parametrize(
    ("opacity", "outlines"), [(0.55, True), (0.2, False), (0, True), (1, True)]
)
def test_an_overlay_is_that_of_the_pixel_by_pixel_oracle(size, opacity, outlines):
    rng = np.random.default_rng(size)
    blocks = rng.choice([0, 1, 2, 3, 77, 200_000], [-(-n // 6) for n in size])
    segment_map = np.kron(blocks, np.ones((6, 6), int))[: size[0], : size[1]].astype(np.int32)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    scene = truth(segment_map, {1: CAT, 2: CAT, 3: DOG, 200_000: GRASS})  # 77 has no segment
    options = {"opacity": opacity, "outlines": outlines}
    expected = overlay.tint(image, segment_map, segment_colors(scene, CATEGORIES), **options)
    style = OverlayOptions(labels=False, **options)
    drawn = draw_panoptic(image, scene, CATEGORIES, style=style)
    assert np.array_equal(drawn, expected)


def test_labels_lie_in_their_segments_wherever_these_are():
    segment_map = np.zeros((200, 300), np.int32)
    segment_map[150:, 200:] = 7
    segment_map[150:170, 260:] = 0
    segment_map[20:30, 40:90] = 9
    labels = segment_labels(truth(segment_map, {7: CAT, 9: DOG, 11: DOG}), CATEGORIES)
    assert [(label.text, label.area) for label in labels] == [("cat", 4200), ("dog", 500)]
    assert [segment_map[label.y, label.x] for label in labels] == [7, 9]


def test_labels_show_the_score_of_predicted_instances():
    plain = prediction(SEGMENT_MAP, SEGMENTS)
    cat, grass = plain.segments
    scored = replace(plain, segments=(replace(cat, score=0.5), grass))
    without = draw_panoptic(IMAGE, plain, CATEGORIES, labels=False)
    named, with_score = (draw_panoptic(IMAGE, p, CATEGORIES) for p in (plain, scored))
    in_cat, in_grass = np.s_[:90, :90], np.s_[:90, 100:]
    assert (with_score != without)[in_cat].sum() > (named != without)[in_cat].sum() > 0
    assert np.array_equal(with_score[in_grass], named[in_grass])


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2)], ids=str)
@pytest.mark.parametrize("categories", [{}, {1: CAT}], ids=["void", "cat"])
def test_tiny_images_and_empty_maps(size, categories):
    panoptic = truth(np.full(size, len(categories)), categories)
    assert draw_panoptic(grey_image(size), panoptic, CATEGORIES).shape == (*size, 3)


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


def thing(k, category=CAT, **fields):
    return Segment(id=k, category=category, is_thing=category != GRASS, area=1, **fields)


def colors_of(segment_map, segments):
    scene = GroundTruth(segment_map=np.array(segment_map), segments=tuple(segments))
    return segment_colors(scene, CATEGORIES)


CROWD = thing(1, is_crowd=True)


@pytest.mark.parametrize(
    ("segment_map", "segments"),
    [
        # the ninth instance comes round to the first one's shade, which it touches
        ([[1, 2, 3], [4, 5, 6], [7, 8, 9]], [thing(k) for k in (1, 3, 4, 5, 6, 7, 8, 9, 2)]),
        ([[1, 2]], [CROWD, thing(2)]),
        ([[1, 2]], [thing(2), CROWD]),
        ([[1] * 29, range(2, 31)], [thing(k) for k in range(1, 31)]),
    ],
    ids=["rotation", "crowd first", "crowd last", "more than there are shades"],
)
def test_a_neighbour_has_another_shade(segment_map, segments):
    colors = colors_of(segment_map, segments)
    assert colors[1] == CATEGORIES[CAT].color != colors[2]
    assert len(colors) == len(segments) + 1


def test_first_instances_stuff_and_void_have_their_own_colours_and_neighbours_differ():
    segments = [thing(5), thing(7, GRASS), thing(9, DOG)]
    colors = colors_of([[0, 5, 7, 9]], segments)
    own = {k: CATEGORIES[category].color for k, category in ((5, CAT), (7, GRASS), (9, DOG))}
    assert colors == {0: VOID_COLOR, **own}
    rng = np.random.default_rng(8)
    for _ in range(20):  # stripes: id k touches k - 1 and k + 1
        segments = [thing(int(k)) for k in rng.permutation(8) + 1]
        colors = colors_of([range(1, 9)], segments)
        assert all(colors[k] != colors[k + 1] for k in range(1, 8))


def changed(image, *labels):
    return (draw_labels(image, labels) != image).any(axis=2)


def sofa(y, x, area=10_000):
    return Label("sofa", y, x, area)


def test_inner_points_are_inside_whatever_the_shape():
    rng = np.random.default_rng(0)
    for _ in range(200):
        mask = rng.random(rng.integers(1, 150, 2)) < rng.choice([0.0, 0.02, 0.5, 0.99])
        mask.flat[rng.integers(mask.size)] = True
        assert mask[find_inner_point(mask)]


def test_the_inner_point_is_in_the_middle_away_from_holes_and_thin_arms():
    mask = np.zeros((100, 200), bool)
    mask[20:61, 30:111] = True
    row, column = find_inner_point(mask)
    assert abs(row - 40) <= 2
    assert 50 <= column <= 90
    mask[20:61, 111:] = mask[44] = True
    mask[25:55, 35:60] = False
    assert find_inner_point(mask)[1] > 80


@pytest.mark.parametrize(("y", "x"), [(60, 120), (0, 0), (0, 191), (127, 0), (127, 191)])
def test_a_label_is_written_around_its_point_but_inside_the_image(y, x):
    rows, columns = np.nonzero(changed(IMAGE, sofa(y, x)))
    assert len(rows) == pytest.approx(changed(IMAGE, sofa(60, 90)).sum(), rel=0.15)
    assert abs((rows.min() + rows.max()) / 2 - np.clip(y, 8, 119)) <= 3
    assert abs((columns.min() + columns.max()) / 2 - np.clip(x, 16, 175)) <= 4


def test_labels_at_the_same_point_move_by_a_line_and_a_pile_is_cut_off():
    one, two, five, nine = (changed(IMAGE, *[sofa(60, 90)] * count) for count in (1, 2, 5, 9))
    assert two.sum() == pytest.approx(2 * one.sum(), rel=0.05)
    assert np.array_equal(five, nine)


def test_letters_grow_with_photographs_of_many_megapixels():
    small, large = (
        np.ptp(np.nonzero(changed(grey_image((side, side)), sofa(side // 2, side // 2, 10**7)))[0])
        for side in (1440, 2880)
    )
    assert large == pytest.approx(2 * small, rel=0.2)


def test_labels_larger_than_their_segment_or_the_image_are_left_out():
    assert not changed(IMAGE, sofa(30, 100, area=50)).any()
    assert not changed(IMAGE[:5, :5], sofa(2, 2)).any()
