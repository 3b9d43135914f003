"""One row per iteration, which shows what the arrays say and none of the image's own colours."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from make.pictures import CAT, CATEGORIES, DOG, GRASS, grey_image, rectangles
from refine.categories import CategoryTable
from refine.fusion.consensus import consensus_gap
from refine.fusion.evidence import Evidence
from refine.options import MergeOptions
from refine.types import IterationTrace
from refine.viz.iteration_rows import draw_iterations

HEIGHT, WIDTH = 64, 400  # wide enough not to be enlarged
CELLS = (HEIGHT // 4, WIDTH // 4)
CAPTION_PX, GAP_PX = 24, 4
CANVAS, SEMANTIC, INSTANCES, DISPUTE = range(4)
OPTIONS = MergeOptions(score_thresh=0.5)
IMAGE = grey_image((HEIGHT, WIDTH))


def trace(*boxes, canvas=None, image_size=(HEIGHT, WIDTH), **fields):
    canvas = torch.zeros(2, *CELLS) if canvas is None else canvas
    raw = replace(rectangles(*boxes, size=(HEIGHT, WIDTH), **fields), image_size=image_size)
    return IterationTrace(raw=raw, canvas=canvas)


def draw(*traces, image=IMAGE, categories=CATEGORIES):
    return draw_iterations(image, traces, categories, OPTIONS)


def panel(picture, kind, row=0):
    top = row * (HEIGHT + CAPTION_PX + GAP_PX) + CAPTION_PX
    left = kind * (WIDTH + GAP_PX)
    return picture[top : top + HEIGHT, left : left + WIDTH].astype(int)


def is_tinted(pixels):
    return np.ptp(pixels, axis=-1) > 0


def test_a_row_of_four_panels_per_iteration_with_no_colour_of_the_image():
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    picture = draw(*(trace() for _ in range(3)), image=image)
    row_px = HEIGHT + CAPTION_PX + GAP_PX
    assert picture.shape == (3 * row_px - GAP_PX, 4 * (WIDTH + GAP_PX) - GAP_PX, 3)
    for kind in (CANVAS, INSTANCES, DISPUTE):
        assert not is_tinted(panel(picture, kind)).any()


def test_canvas_cells_have_the_colour_of_their_strongest_category():
    canvas = torch.zeros(2, *CELLS)
    canvas[CAT, 2, 5] = 1.0
    canvas[DOG, 2:4, 5] = 0.5
    drawn = panel(draw(trace(canvas=canvas)), CANVAS)
    assert (drawn[8:12, 20:24] == (255, 0, 0)).all()
    red, _, blue = drawn[12, 20]
    assert red < 40 < 120 < blue < 150
    assert is_tinted(drawn).sum() == 2 * 16


def test_the_canvas_is_scaled_from_network_to_original_pixels_without_its_padding():
    # the network saw 30 x 200 of these 64 x 400 pixels, padded to 32 x 224
    canvas = torch.zeros(2, 8, 56)
    canvas[CAT, 7, 49] = canvas[DOG, :, 50:] = 1.0
    drawn = panel(draw(trace(canvas=canvas, image_size=(30, 200))), CANVAS)
    cat = drawn[..., 0] > 200
    assert cat.sum() == cat[60:, 392:].sum() == 4 * 8  # half the last row of cells is padding
    assert not (drawn[..., 2] > 200).any()


def test_the_semantic_map_has_the_categories_own_colours():
    semantic = np.full(CELLS, GRASS)
    semantic[:, 25:50] = DOG
    drawn = panel(draw(trace(semantic=semantic)), SEMANTIC)
    assert (drawn[5, 20].argmax(), drawn[5, 150].argmax()) == (1, 2)


def test_hidden_and_improbable_instances_are_not_counted():
    large, hidden, improbable = (0, 0, 80, 40), (5, 5, 10, 10), (200, 0, 300, 40)
    scores = (0.9, 0.6, 0.4)
    more = trace(large, hidden, improbable, labels=[CAT] * 3, scores=scores)
    assert np.array_equal(draw(more), draw(trace(large)))


@pytest.mark.parametrize("seed", range(3))
def test_the_dispute_is_that_of_the_consensus_gap(seed):
    rng = np.random.default_rng(seed)
    semantic = rng.choice([CAT, DOG, GRASS], CELLS)
    starts = rng.integers(0, 30, (4, 2)) * (8, 1)
    boxes = [(x, y, x + 90, y + 30) for x, y in starts.tolist()]
    views = [trace(semantic=semantic), trace(*boxes, labels=[CAT] * 4, semantic=semantic)]
    gap = consensus_gap(Evidence(views[1].raw, num_things=2), OPTIONS)
    for row in range(2):  # iteration 0 is compared with the instances of iteration 1
        drawn = panel(draw(*views), DISPUTE, row=row)
        assert (drawn[..., 0] > drawn[..., 2]).sum() == gap.num_bare_things > 0
        assert (drawn[..., 2] > drawn[..., 0]).sum() == gap.num_covered_stuff > 0


def test_tiny_images_are_enlarged_and_a_dataset_may_have_no_things():
    raw = rectangles((0, 0, 4, 4), size=(4, 4))
    tiny = IterationTrace(raw=raw, canvas=torch.zeros(2, 1, 1))
    assert draw(tiny, image=grey_image((4, 4))).shape[0] == 384 + CAPTION_PX
    sea = trace(canvas=torch.zeros(0, *CELLS), semantic=np.zeros(CELLS, int))
    table = CategoryTable.of([{"id": 1, "name": "sea", "isthing": 0}])
    assert not is_tinted(panel(draw(sea, categories=table), DISPUTE)).any()


def test_nothing_to_draw_and_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="no iterations"):
        draw()
    with pytest.raises(ValueError, match=r"expected \(8, 8\), the size of the image"):
        draw(trace(), image=grey_image((8, 8)))
