"""One bilinear interpolation from stride 4 to the original size, then the best category."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from oracles.semantic import sample_logits
from refine.fusion.semantic import semantic_map


def smooth_logits(num_categories, height, width):
    """Blobs with borders, so that most cells agree with their neighbours and some do not."""
    seeds = torch.randn(1, num_categories, 3, 4) * 3
    return F.interpolate(seeds, size=(height, width), mode="bilinear")[0]


def clear_pixels(values):
    """Where the best category leads by more than rounding."""
    best = np.sort(values, axis=-1)
    return best[..., -1] - best[..., -2] > 1e-4


@pytest.mark.parametrize("make", [smooth_logits, torch.randn])
@pytest.mark.parametrize(
    ("image_size", "original_size", "padded"),
    [
        ((32, 64), (32, 64), (32, 64)),  # as large as the network's input
        ((61, 33), (61, 33), (64, 64)),  # padded below and on the right
        ((48, 62), (37, 48), (64, 64)),  # shrunk for output
        ((48, 62), (101, 130), (64, 64)),  # enlarged
        ((32, 32), (7, 90), (32, 32)),  # another aspect ratio
    ],
)
def test_equals_sampling_each_pixel_centre(make, image_size, original_size, padded):
    logits = make(5, padded[0] // 4, padded[1] // 4)
    values = sample_logits(logits, image_size, original_size)
    result = semantic_map(logits, image_size, original_size)
    assert (result.dtype, result.shape) == (np.uint8, original_size)
    clear = clear_pixels(values)
    assert clear.mean() > 0.9
    assert np.array_equal(result[clear], values.argmax(-1)[clear])


def test_a_category_between_two_others_may_win_though_no_cell_says_so():
    # cells say 0 and 1; half-way category 2 is second to both and leads
    logits = torch.tensor([[[7.0, 0.0]], [[0.0, 7.0]], [[5.0, 5.0]]])
    assert semantic_map(logits, (4, 8), (4, 8))[0].tolist() == [0, 0, 0, 2, 2, 1, 1, 1]


@pytest.mark.parametrize("num_categories", [1, 5, 255])
def test_one_pixel_image(num_categories):
    logits = torch.randn(num_categories, 8, 8)
    result = semantic_map(logits, (32, 32), (1, 1))
    assert result.shape == (1, 1)
    assert result[0, 0] == logits[:, 3:5, 3:5].mean((1, 2)).argmax()


def test_one_cell():
    assert (semantic_map(torch.tensor([[[1.0]], [[2.0]]]), (4, 4), (5, 3)) == 1).all()


def test_more_categories_than_fit_are_refused():
    with pytest.raises(ValueError, match="256 categories"):
        semantic_map(torch.zeros(256, 2, 2), (8, 8), (8, 8))
