"""The merge on crops equals the sequential one on full canvases."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.merge import VOID, merge
from refine.fusion.merge import Instance, Relations, merge_segments
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


def random_relations(rng, count):
    """Some of the pairs, many of them in circles, some of equal margin."""
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count) if rng.random() < 0.7]
    return Relations(
        np.array(pairs, np.int64).reshape(-1, 2),
        rng.choice([-1, -1, 0, 1], len(pairs)).astype(np.int8),
        rng.choice([0.0, 0.1, 0.2, 0.3, *rng.random(20)], len(pairs)),
    )


def as_triples(relations):
    if relations is None:
        return []
    triples = zip(relations.pairs.tolist(), relations.on_top, relations.margins, strict=True)
    return [(*(p if on_top > 0 else p[::-1]), m) for p, on_top, m in triples if on_top]


def check(rng, masks, labels, scores, semantic, *, options, limit=0, relations=None):
    instances = [
        Instance(as_crop(rng, m), label, score)
        for m, label, score in zip(masks, labels, scores, strict=True)
    ]
    fast = merge_segments(
        instances, semantic, num_things=NUM_THINGS, options=options, stuff_area_limit_px=limit,
        relations=relations,
    ).paint()  # fmt: skip
    rules = {k: v for k, v in asdict(options).items() if k != "mask_thresh"}
    rules |= {"num_things": NUM_THINGS, "limit": limit, "relations": as_triples(relations)}
    slow_map, slow_segments = merge(masks, labels, scores, semantic, **rules)
    assert fast.segment_map.dtype == np.int32
    assert np.array_equal(fast.segment_map, slow_map)
    got = [(s.id, s.category, s.is_thing, s.area, s.score) for s in fast.segments]
    assert got == slow_segments
    assert sum(s.area for s in fast.segments) == np.count_nonzero(fast.segment_map)
    assert [s.id for s in fast.segments] == list(range(1, len(fast.segments) + 1))
    return fast


def random_scene(rng, size, dtype=np.uint8):
    """The positional arguments of :func:`check`, without the generator."""
    count = int(rng.integers(0, 12))
    values = [*range(NUM_THINGS + NUM_STUFF), VOID]
    # blocks rather than single pixels, so that the area limit decides both ways
    semantic = rng.choice(values, (-(-size[0] // 5), -(-size[1] // 5)))
    return (
        random_masks(rng, count, size),
        rng.integers(0, NUM_THINGS, count).tolist(),
        rng.choice([0.2, 0.5, 0.5, 0.7, 0.9], count).tolist(),
        np.kron(semantic, np.ones((5, 5), int))[: size[0], : size[1]].astype(dtype),
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
@pytest.mark.parametrize("order", ["score", "topological"])
@pytest.mark.parametrize("overlap_rule", ["covered", "visible"])
@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_scenes(seed, overlap_rule, order, dtype):
    rng = np.random.default_rng(seed)
    size = (1, seed % 17 + 1) if seed % 9 == 0 else tuple(rng.integers(1, 41, 2))
    scene = random_scene(rng, size, dtype)
    options = MergeOptions(
        score_thresh=float(rng.choice([0.0, 0.5])),
        overlap_thresh=float(rng.choice([0.0, 0.29, 0.5, 1.0])),
        overlap_rule=overlap_rule,
        order=order,
    )
    relations = random_relations(rng, len(scene[0])) if rng.random() < 0.7 else None
    limit = int(rng.choice([0, 1, 20, 10_000]))
    check(rng, *scene, options=options, limit=limit, relations=relations)


def test_random_relations_make_a_difference():
    """Else the property above would prove nothing."""
    counts = {"reclaimed": 0, "reordered": 0, "emptied": 0}
    for seed in range(80):
        rng = np.random.default_rng(seed)
        scene = random_scene(rng, (20, 20))
        relations = random_relations(rng, len(scene[0]))
        plain, reclaimed, reordered = (
            check(rng, *scene, options=MergeOptions(order=order), relations=known)
            for order, known in (("score", None), ("score", relations), ("topological", relations))
        )
        counts["reclaimed"] += not np.array_equal(plain.segment_map, reclaimed.segment_map)
        counts["reordered"] += not np.array_equal(reclaimed.segment_map, reordered.segment_map)
        counts["emptied"] += len(reclaimed.segments) < len(plain.segments)
    assert min(counts.values()) >= 2, counts


@pytest.mark.parametrize("overlap_thresh", [0.07, 0.14, 0.28, 0.29, 0.55, 0.57, 0.58])
def test_a_share_of_exactly_the_limit_is_accepted(overlap_thresh):
    top, below = np.zeros((2, 10, 20), bool)
    below[:, :10] = top[:, 10:] = True
    shared = round(overlap_thresh * 100)
    top[:, :10].flat[:shared] = True
    scene = ([top, below], [0, 1], [0.9, 0.8], np.full((10, 20), VOID, np.uint8))
    options = MergeOptions(overlap_thresh=overlap_thresh)
    fast = check(np.random.default_rng(0), *scene, options=options)
    assert [s.area for s in fast.segments] == [100 + shared, 100 - shared]
