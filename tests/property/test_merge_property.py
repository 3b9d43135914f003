"""The merge on crops equals the sequential one on full canvases."""

import numpy as np
import pytest

from oracles.merge import VOID, merge
from refine.fusion.merge import Instance, merge_segments
from refine.options import MergeOptions
from refine.types import MaskCrop

NUM_THINGS, NUM_STUFF = 4, 3


def random_masks(rng, count, size):
    """Rectangles with holes, some of them off the edge, some empty, some repeated."""
    height, width = size
    masks = []
    for _ in range(count):
        if masks and rng.random() < 0.2:
            masks.append(masks[rng.integers(len(masks))])
            continue
        mask = np.zeros(size, bool)
        y, x = rng.integers(-3, height), rng.integers(-3, width)
        tall, wide = rng.integers(0, max(height, 2)), rng.integers(0, max(width, 2))
        mask[max(y, 0) : max(y + tall, 0), max(x, 0) : max(x + wide, 0)] = True
        masks.append(mask & (rng.random(size) < rng.choice([0.3, 0.9, 1.1])))
    return masks


def as_crop(rng, mask):
    """A crop that holds the mask, with random margins."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return MaskCrop(0, 0, mask[:0, :0])
    y, x = rng.integers(rows.min() + 1), rng.integers(columns.min() + 1)
    return MaskCrop(int(y), int(x), mask[y : rows.max() + 1, x : columns.max() + 1])


def check(rng, masks, labels, scores, semantic, *, options, limit):
    instances = [
        Instance(as_crop(rng, m), label, score)
        for m, label, score in zip(masks, labels, scores, strict=True)
    ]
    fast = merge_segments(
        instances, semantic, num_things=NUM_THINGS, options=options, stuff_area_limit_px=limit
    )
    slow_map, slow_segments = merge(
        masks,
        labels,
        scores,
        semantic,
        num_things=NUM_THINGS,
        score_thresh=options.score_thresh,
        overlap_thresh=options.overlap_thresh,
        limit=limit,
    )
    assert fast.segment_map.dtype == np.int32
    assert np.array_equal(fast.segment_map, slow_map)
    got = [(s.id, s.category, s.is_thing, s.area, s.score) for s in fast.segments]
    assert got == slow_segments
    assert sum(s.area for s in fast.segments) == np.count_nonzero(fast.segment_map)
    return fast


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
@pytest.mark.parametrize("size", [(1, 1), (1, 17), (13, 9), (40, 50)])
def test_random_scenes(size, dtype):
    rng = np.random.default_rng(size)
    for _ in range(60):
        count = int(rng.integers(0, 12))
        masks = random_masks(rng, count, size)
        values = [*range(NUM_THINGS + NUM_STUFF), VOID]
        # blocks rather than single pixels, so that the area limit decides both ways
        semantic = rng.choice(values, (-(-size[0] // 5), -(-size[1] // 5)))
        semantic = np.kron(semantic, np.ones((5, 5), int))[: size[0], : size[1]].astype(dtype)
        options = MergeOptions(
            score_thresh=float(rng.choice([0.0, 0.5])),
            overlap_thresh=float(rng.choice([0.0, 0.29, 0.5, 1.0])),
        )
        check(
            rng,
            masks,
            rng.integers(0, NUM_THINGS, count).tolist(),
            rng.choice([0.2, 0.5, 0.5, 0.7, 0.9], count).tolist(),
            semantic,
            options=options,
            limit=int(rng.choice([0, 1, 20, 10_000])),
        )


@pytest.mark.parametrize("overlap_thresh", [0.07, 0.14, 0.28, 0.29, 0.55, 0.57, 0.58])
def test_a_share_of_exactly_the_limit_is_accepted(overlap_thresh):
    rng = np.random.default_rng(0)
    top, below = np.zeros((10, 20), bool), np.zeros((10, 20), bool)
    below[:, :10] = True
    top[:, 10:] = True
    below_pixels = round(overlap_thresh * 100)
    top[:, :10].flat[:below_pixels] = True
    fast = check(
        rng,
        [top, below],
        [0, 1],
        [0.9, 0.8],
        np.full((10, 20), VOID, np.uint8),
        options=MergeOptions(overlap_thresh=overlap_thresh),
        limit=0,
    )
    assert [s.area for s in fast.segments] == [100 + below_pixels, 100 - below_pixels]
