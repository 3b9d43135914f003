"""A row an iteration, and in it what the arrays say and nothing of the image's own colours."""

from dataclasses import dataclass

import numpy as np
import pytest

from refine.categories import Category, CategoryTable
from refine.fusion.consensus import count_disputed
from refine.fusion.merge import Instance
from refine.types import MaskCrop
from refine.viz.iterations import IterationView, draw_iterations
from refine.viz.palette import VOID_COLOR

CATEGORIES = CategoryTable(
    [
        Category(dataset_id=1, name="cat", is_thing=True, color=(255, 0, 0)),
        Category(dataset_id=2, name="dog", is_thing=True, color=(0, 0, 255)),
        Category(dataset_id=3, name="grass", is_thing=False, color=(0, 255, 0)),
    ]
)
CAT, DOG, GRASS, VOID = 0, 1, 2, 255
HEIGHT, WIDTH = 64, 400  # wide enough not to be enlarged
CAPTION_PX, GAP_PX = 24, 4
CANVAS, SEMANTIC, INSTANCES, DISPUTE = range(4)


@dataclass
class Found:
    crop: MaskCrop
    label: int = CAT
    score: float = 0.9


def found(top, left, bottom, right, **fields):
    return Found(MaskCrop(top, left, np.ones((bottom - top, right - left), bool)), **fields)


def view(iteration=0, *, instances=(), semantic=None, canvas=None, image_size=(HEIGHT, WIDTH)):
    return IterationView(
        iteration=iteration,
        canvas=np.zeros((2, HEIGHT // 4, WIDTH // 4)) if canvas is None else canvas,
        semantic=np.full((HEIGHT, WIDTH), GRASS, np.uint8) if semantic is None else semantic,
        instances=instances,
        image_size=image_size,
    )


def colourful_image():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def draw(*views, image=None):
    image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8) if image is None else image
    return draw_iterations(image, views, CATEGORIES)


def panel(picture, kind, row=0):
    top = row * (HEIGHT + CAPTION_PX + GAP_PX) + CAPTION_PX
    left = kind * (WIDTH + GAP_PX)
    return picture[top : top + HEIGHT, left : left + WIDTH].astype(int)


def is_tinted(pixels):
    return np.ptp(pixels, axis=-1) > 0


@pytest.mark.parametrize("count", [1, 4])
def test_a_row_of_four_panels_an_iteration(count):
    image = colourful_image()
    picture = draw(*(view(k) for k in range(count)), image=image)
    assert picture.dtype == np.uint8
    assert picture.shape == (
        count * (HEIGHT + CAPTION_PX + GAP_PX) - GAP_PX,
        4 * (WIDTH + GAP_PX) - GAP_PX,
        3,
    )
    assert np.array_equal(image, colourful_image())
    assert np.array_equal(picture, draw(*(view(k) for k in range(count)), image=image))


def test_the_image_lends_no_colour():
    picture = draw(view(), image=colourful_image())
    assert not is_tinted(panel(picture, CANVAS)).any()
    assert not is_tinted(panel(picture, INSTANCES)).any()
    assert not is_tinted(panel(picture, DISPUTE)).any()


def test_canvas_cells_have_the_colour_of_their_strongest_category():
    canvas = np.zeros((2, HEIGHT // 4, WIDTH // 4))
    canvas[CAT, 2, 5] = 1.0
    canvas[DOG, 2, 5] = 0.5
    canvas[DOG, 3, 5] = 0.5
    drawn = panel(draw(view(canvas=canvas)), CANVAS)
    assert (drawn[8:12, 20:24] == (255, 0, 0)).all()
    red, _, blue = drawn[12, 20]
    assert red < 40 < 120 < blue < 150
    assert is_tinted(drawn).sum() == 2 * 16


def test_the_canvas_is_scaled_from_network_to_original_pixels_without_its_padding():
    # the network saw 30 x 200 of these 64 x 400 pixels, padded to 32 x 224
    canvas = np.zeros((2, 8, 56))
    canvas[CAT, 7, 49] = canvas[DOG, :, 50:] = 1.0
    drawn = panel(draw(view(canvas=canvas, image_size=(30, 200))), CANVAS)
    cat = drawn[..., 0] > 200
    assert cat.sum() == cat[60:, 392:].sum() == 4 * 8  # half the last row of cells is padding
    assert not (drawn[..., 2] > 200).any()


def test_the_semantic_map_has_the_categories_own_colours():
    semantic = np.full((HEIGHT, WIDTH), GRASS, np.uint8)
    semantic[:, 100:200], semantic[:, 200:300] = DOG, VOID
    drawn = panel(draw(view(semantic=semantic)), SEMANTIC)
    assert drawn[5, 20].argmax() == 1
    assert drawn[5, 120].argmax() == 2
    assert np.ptp(drawn[5, 220]) == 0
    assert drawn[5, 220].max() < 128 * 0.45 + max(VOID_COLOR)


def test_the_surest_instance_lies_on_top():
    dog, cat = (
        found(0, 0, 40, 80, label=DOG, score=0.95),
        found(0, 60, 40, 200, label=CAT, score=0.7),
    )
    for order in ([dog, cat], [cat, dog]):
        drawn = panel(draw(view(1, instances=order)), INSTANCES)
        assert drawn[5, 70].argmax() == 2
        assert drawn[5, 100].argmax() == 0
        assert not is_tinted(drawn[45:]).any()


def test_hidden_and_empty_instances_are_not_counted():
    large = found(0, 0, 40, 80)
    hidden = [found(5, 5, 10, 10, score=0.5), found(0, 0, 0, 0, score=0.4)]
    assert np.array_equal(
        draw(view(1, instances=[large, *hidden])), draw(view(1, instances=[large]))
    )


def test_instances_of_a_category_differ_in_shade():
    pair = [found(0, 0, 60, 100), found(0, 100, 60, 200, score=0.8)]
    drawn = panel(draw(view(1, instances=pair)), INSTANCES)
    assert (drawn[5, 5] != drawn[5, 105]).any()


@pytest.mark.parametrize("seed", range(5))
def test_the_dispute_is_that_of_the_consensus_gap(seed):
    rng = np.random.default_rng(seed)
    semantic = rng.choice([CAT, DOG, GRASS, VOID], (HEIGHT, WIDTH)).astype(np.uint8)
    crops = [MaskCrop(8 * k, 50 * k, rng.random((30, 90)) < 0.5) for k in range(4)]
    instances = [Instance(crop, label=CAT, score=0.9) for crop in crops]
    drawn = panel(draw(view(1, semantic=semantic, instances=instances)), DISPUTE)
    gap = count_disputed(semantic, instances, num_things=2)
    assert (drawn[..., 0] > drawn[..., 2]).sum() == gap.num_bare_things
    assert (drawn[..., 2] > drawn[..., 0]).sum() == gap.num_covered_stuff


def test_iteration_0_is_held_against_the_instances_of_iteration_1():
    picture = draw(view(0), view(1, instances=[found(8, 8, 40, 40)]), view(2))
    assert not is_tinted(panel(picture, INSTANCES)).any()
    assert is_tinted(panel(picture, DISPUTE)).sum() == 32 * 32
    assert is_tinted(panel(picture, DISPUTE, row=1)).sum() == 32 * 32
    assert not is_tinted(panel(picture, DISPUTE, row=2)).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (300, 2)])
def test_tiny_images_are_enlarged(size):
    tiny = IterationView(
        iteration=0,
        canvas=np.zeros((2, 80, 16)),
        semantic=np.full(size, CAT, np.uint8),
        instances=[Found(MaskCrop(0, 0, np.ones(size, bool)))],
        image_size=size,
    )
    picture = draw_iterations(np.zeros((*size, 3), np.uint8), [tiny], CATEGORIES)
    assert picture.shape[0] > size[0]


def test_a_dataset_without_things():
    table = CategoryTable([Category(dataset_id=1, name="sea", is_thing=False, color=(0, 0, 255))])
    sea = view(canvas=np.zeros((0, 16, 100)), semantic=np.zeros((HEIGHT, WIDTH), np.uint8))
    picture = draw_iterations(np.zeros((HEIGHT, WIDTH, 3), np.uint8), [sea], table)
    assert not is_tinted(panel(picture, DISPUTE)).any()


def test_nothing_to_draw_and_maps_of_another_size_are_refused():
    with pytest.raises(ValueError, match="no iterations"):
        draw()
    with pytest.raises(ValueError, match="the size of the segment map"):
        draw(view(semantic=np.zeros((8, 8), np.uint8)))
