"""Unknown Erasing equals its loop form on random maps: identical, not close."""

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oracles import unknown_erasing as oracle
from refine.fusion.semantic import semantic_map
from refine.fusion.unknown_erasing import erasable_regions, erase
from refine.options import UnknownErasingOptions

MAPS = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([0, 1, 255]),
)


def blobs(num_categories, height, width):
    """Logits that float32 interpolates by four without rounding."""
    coarse = torch.randn(1, num_categories, 3, 3) * 3
    values = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    return ((values + torch.randn(values.shape) * 0.3) * 512).round() / 512


@pytest.mark.parametrize("at", ["stride4", "input"])
@pytest.mark.parametrize("categories", ["stuff", "all"])
@pytest.mark.parametrize(
    ("image_size", "original_size"),
    [
        ((20, 28), (20, 28)),
        ((18, 23), (18, 23)),  # padded below and on the right
        ((21, 30), (13, 19)),  # shrunk for output
        ((14, 18), (31, 37)),  # enlarged
        ((16, 16), (5, 33)),  # another aspect ratio
        ((1, 1), (1, 1)),
    ],
)
def test_whole(image_size, original_size, at, categories):
    num_erased, num_kept = 0, 0
    for dilation_frac in (0.0, 0.1, 0.3):
        logits = blobs(5, 8, 12)
        semantic = semantic_map(logits, image_size, original_size)
        options = UnknownErasingOptions(at=at, categories=categories, dilation_frac=dilation_frac)
        regions = erasable_regions(
            logits, semantic, image_size=image_size, num_things=2, options=options
        )
        for score_thresh in (0.55, 0.75):
            slow = oracle.erase(
                logits,
                semantic,
                image_size=image_size,
                first_category=0 if categories == "all" else 2,
                radius=round(dilation_frac * min(image_size) / (1 if at == "input" else 4)),
                at=at,
                score_thresh=score_thresh,
            )
            fast = erase(semantic, regions, score_thresh)
            assert np.array_equal(fast, slow)
            assert fast.dtype == np.uint8
            num_erased += np.count_nonzero(fast != semantic)
            num_kept += np.count_nonzero(fast == semantic)
    if image_size != (1, 1):
        assert min(num_erased, num_kept) > 100
