"""Where the semantic map and the instances say otherwise, counted pixel by pixel."""

from dataclasses import astuple

import numpy as np
import pytest
import torch

from make.scenes import raw_of
from refine.fusion.consensus import ConsensusGap, consensus_gap, count_disputed
from refine.fusion.evidence import Evidence
from refine.fusion.merge import Instance
from refine.options import MergeOptions
from refine.types import MaskCrop

BALL, TENT, GRASS, SKY, VOID = 0, 1, 2, 3, 255
NUM_THINGS = 2


def count_slowly(semantic, masks, band_px):
    """Pixels, bare things, covered stuff, band, void in the band."""
    height, width = semantic.shape
    counts = [0] * 5
    on = [(y, x) for y in range(height) for x in range(width) if any(m[y, x] for m in masks)]
    for y in range(height):
        for x in range(width):
            category, covered = semantic[y, x], (y, x) in on
            near = any(max(abs(y - v), abs(x - u)) <= band_px for v, u in on)
            counts[0] += 1
            counts[1] += category < NUM_THINGS and not covered
            counts[2] += category in (GRASS, SKY) and covered
            counts[3] += near and not covered
            counts[4] += near and not covered and category not in (GRASS, SKY)
    return counts


def counts_of(gap):
    return list(astuple(gap))


def instance(mask, y=0, x=0):
    return Instance(MaskCrop(y, x, np.array(mask, bool)), label=BALL, score=0.9)


def count(semantic, instances=(), **band):
    return count_disputed(np.array(semantic, np.uint8), instances, num_things=NUM_THINGS, **band)


@pytest.mark.parametrize("seed", range(30))
def test_equals_a_loop_over_pixels(seed):
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 12, 2)
    semantic = rng.choice([BALL, TENT, GRASS, SKY, VOID], size).astype(np.uint8)
    masks = []
    instances = []
    for _ in range(rng.integers(0, 4)):
        y, x = (int(rng.integers(0, side)) for side in size)
        crop = (
            rng.random((rng.integers(0, size[0] - y + 1), rng.integers(0, size[1] - x + 1))) < 0.3
        )
        masks.append(np.zeros(size, bool))
        masks[-1][y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        instances.append(instance(crop, y, x))
    band_px = int(rng.integers(0, 5))
    gap = count(semantic, instances, band_px=band_px)
    assert counts_of(gap) == count_slowly(semantic, masks, band_px)


def test_each_side_of_the_dispute():
    gap = count([[BALL, BALL, GRASS, GRASS, VOID]], [instance([[1, 1, 1]], x=1)], band_px=1)
    assert counts_of(gap) == [5, 1, 2, 2, 2]
    assert gap.gap == 3 / 5
    assert gap.band_void == 1.0


@pytest.mark.parametrize(("side", "reach"), [(10, 2), (64, 2), (128, 4)])
def test_the_band_grows_with_the_short_side(side, reach):
    semantic = np.full((side, 300), SKY)
    gap = count(semantic, [instance([[1]], y=side // 2, x=150)])
    assert gap.num_band == (2 * reach + 1) ** 2 - 1


def test_counts_add_up_and_shares_are_of_the_sum():
    gaps = [count([[BALL]]), count([[SKY, SKY, SKY]])]
    total = sum(gaps, start=ConsensusGap())
    assert counts_of(total) == [4, 1, 0, 0, 0]
    assert total.gap == 0.25
    assert (ConsensusGap().gap, ConsensusGap().band_void) == (0, 0)


def raw_prediction(box=(8, 8, 24, 24), *, scores=(0.9,), original=(32, 64)):
    """A ball's category in the square ``8..24`` of a 32 x 64 image, sky elsewhere."""
    semantic = torch.zeros(4, 8, 16)
    semantic[SKY] = 5
    semantic[BALL, 2:6, 2:6] = 10
    return raw_of([box] * len(scores), scores, semantic=semantic, original=original)


def gap_of(raw, **options):
    return consensus_gap(Evidence(raw, num_things=NUM_THINGS), MergeOptions(**options))


@pytest.mark.parametrize("original_size", [(32, 64), (64, 128)])
def test_a_raw_prediction_is_judged_at_original_size(original_size):
    gap = gap_of(raw_prediction(original=original_size))
    assert gap.num_pixels == original_size[0] * original_size[1]
    assert gap.gap == pytest.approx(0, abs=0.01)
    scale = original_size[0] // 32
    moved = gap_of(raw_prediction((24, 8, 40, 24), original=original_size))
    assert moved.num_covered_stuff == 16 * 16 * scale**2
    assert moved.num_bare_things == pytest.approx(16 * 16 * scale**2, rel=0.2)


def test_weak_detections_cover_nothing():
    raw = raw_prediction(scores=(0.4,))
    assert gap_of(raw) == gap_of(raw_prediction(scores=()))
    assert gap_of(raw, score_thresh=0.3) == gap_of(raw_prediction())
