import numpy as np
import pytest

from refine.toy.objects import THINGS
from refine.toy.shapes import clip_outline, mask_of, outline_area, rasterise, thing_outline


@pytest.mark.parametrize("name", THINGS)
def test_things_of_every_category_have_the_same_area(name):
    rng = np.random.default_rng(0)
    for _ in range(10):
        outline = thing_outline(name, side_px=30, centre=(50, 40), rng=rng)
        assert outline_area(outline) == pytest.approx(900)
        window, inside, _ = rasterise(outline, (100, 100))
        assert inside.sum() == pytest.approx(900, rel=0.05)
        assert window[0].stop <= 100
        assert window[1].stop <= 100


@pytest.mark.parametrize("centre", [(0, 0), (100, 40), (50, 79), (-5, 90), (-60, 10)])
def test_a_clipped_outline_covers_what_is_left_in_the_image(centre):
    size = (80, 100)
    outline = thing_outline("star", side_px=40, centre=centre, rng=np.random.default_rng(1))
    clipped = clip_outline(outline, size)
    assert (clipped >= 0).all()
    assert (clipped <= (100, 80)).all()
    found, expected = mask_of([clipped], size), mask_of([outline], size)
    assert (found ^ expected).sum() <= 0.02 * expected.sum()
