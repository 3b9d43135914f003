"""What Unknown Erasing erases, what it leaves, and what is said about it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from make.scenes import segments_of, truth_of
from refine.fusion.semantic import semantic_map
from refine.fusion.unknown_erasing import (
    ErasedCount,
    count_erased,
    erasable_regions,
    erase,
    erase_categories,
    wrong_stuff,
)
from refine.options import UnknownErasingOptions
from refine.types import PanopticPrediction

VOID = 255
THING, GRASS, SKY = 0, 1, 2
FORMS = ["stride4", "input"]


def logits_of(categories, confidence, num_categories=3):
    """Cells of these categories; ``confidence`` is the lead of their logit."""
    one_hot = F.one_hot(torch.as_tensor(categories), num_categories).permute(2, 0, 1)
    return one_hot * torch.as_tensor(confidence, dtype=torch.float32)


def regions_of(logits, *, image_size=None, original_size=None, **options):
    image_size = image_size or (logits.shape[1] * 4, logits.shape[2] * 4)
    semantic = semantic_map(logits, image_size, original_size or image_size)
    options = UnknownErasingOptions(mode="score", **options)
    return semantic, erasable_regions(
        logits, semantic, image_size=image_size, num_things=1, options=options
    )


def two_parts(gap, parts=(0.2, 9.0)):
    """Sky with two patches of grass that lie ``gap`` cells apart, of these leads."""
    categories = np.full((40, 60), SKY)
    confidence = np.full((40, 60), 9.0, np.float32)
    for start, lead in zip((4, 8 + gap), parts, strict=True):
        categories[18:22, start : start + 4] = GRASS
        confidence[18:22, start : start + 4] = lead
    return logits_of(categories, confidence)


@pytest.mark.parametrize("at", FORMS)
def test_a_confident_speck_goes_with_the_doubtful_patch_near_it(at):
    # radius 10 cells, 40 pixels; interpolation makes the weak patch a little smaller
    semantic, regions = regions_of(two_parts(18), at=at, dilation_frac=0.25)
    assert len(regions.scores) == 2
    result = erase(semantic, regions, 0.9)
    assert (result[semantic == GRASS] == VOID).all()
    assert (result[semantic == SKY] == SKY).all()


def test_score_is_the_mean_over_the_regions_own_cells():
    lead = np.log([[[1.0, 2.0, 8.0, 2.0]]])[0] + np.log(2)  # probabilities 1/2, 2/3, 8/9, 2/3
    categories = np.array([[GRASS, GRASS, SKY, GRASS]])
    _, regions = regions_of(logits_of(categories, lead), dilation_frac=1.0)
    assert sorted(regions.scores) == pytest.approx([(1 / 2 + 2 / 3 + 2 / 3) / 3, 8 / 9])


def test_a_score_of_exactly_the_threshold_stays():
    semantic, regions = regions_of(torch.zeros(4, 2, 2)[:, :1], categories="all")
    assert regions.scores.tolist() == [0.25]
    assert erase(semantic, regions, 0.25) is semantic
    assert (erase(semantic, regions, 0.2500001) == VOID).all()


def test_a_category_that_wins_only_between_cells_stays():
    # cells say 0 and 1; half-way category 2 leads, and no cell is of category 2
    logits = torch.tensor([[[7.0, 0.0]], [[0.0, 7.0]], [[5.0, 5.0]]])
    semantic, regions = regions_of(logits, image_size=(4, 8), categories="all")
    assert semantic[0].tolist() == [0, 0, 0, 2, 2, 1, 1, 1]
    assert erase(semantic, regions, 1.0)[0].tolist() == [VOID] * 3 + [2, 2] + [VOID] * 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("at", FORMS)
def test_half_precision_logits_are_scored_in_single(at, dtype):
    logits = torch.randn(3, 8, 8).to(dtype)
    _, half = regions_of(logits, at=at)
    _, single = regions_of(logits.float(), at=at)
    assert np.array_equal(half.scores, single.scores)


@pytest.mark.parametrize("at", FORMS)
def test_large_logits_do_not_overflow(at):
    _, regions = regions_of(logits_of(np.full((2, 2), SKY), 3e4), at=at)
    assert regions.scores.tolist() == [1.0]


@pytest.mark.parametrize("at", FORMS)
@pytest.mark.parametrize("dilation_frac", [0.0, 1 / 16, 1.0])
@pytest.mark.parametrize("num_categories", [1, 2, 255])
def test_one_pixel(num_categories, dilation_frac, at):
    logits = torch.randn(num_categories, 8, 8)
    semantic, regions = regions_of(
        logits, image_size=(1, 1), dilation_frac=dilation_frac, at=at, categories="all"
    )
    assert len(regions.scores) == 1
    expected = semantic[0, 0] if num_categories == 1 else VOID  # one category is certain
    assert erase(semantic, regions, 1.0).tolist() == [[expected]]


@pytest.mark.parametrize("at", FORMS)
def test_no_stuff(at):
    semantic, regions = regions_of(logits_of(np.full((4, 4), THING), 0.1), at=at)
    assert len(regions.scores) == 0
    assert erase(semantic, regions, 1.0) is semantic


def test_erase_categories():
    semantic = np.array([[0, 1, 2], [2, 1, VOID]], np.uint8)
    assert erase_categories(semantic, {2, 0}).tolist() == [[VOID, 1, VOID], [VOID, 1, VOID]]
    assert np.array_equal(erase_categories(semantic, set()), semantic)
    assert semantic[0, 0] == 0


def prediction_of(segment_map, categories):
    segment_map = np.asarray(segment_map, np.int32)
    segments = segments_of(segment_map, categories, num_things=1)
    return PanopticPrediction(segment_map=segment_map, segments=segments)


def test_wrong_stuff_is_a_false_positive_of_panoptic_quality():
    truth = truth_of([[1, 1, 1, 1, 2, 2, 2, 2]], {1: GRASS, 2: SKY}, num_things=1)
    segment_map = [[1, 1, 1, 2, 2, 2, 2, 3]]
    right = prediction_of(segment_map, {1: GRASS, 2: SKY, 3: THING})
    assert wrong_stuff(right, truth) == set()
    swapped = prediction_of(segment_map, {1: SKY, 2: GRASS, 3: THING})
    assert wrong_stuff(swapped, truth) == {GRASS, SKY}


def test_erased_segments_are_counted_and_judged():
    truth = truth_of([[1] * 6 + [2] * 6], {1: GRASS, 2: SKY})
    names = {1: GRASS, 2: SKY, 3: 3, 4: THING}
    before = prediction_of([[1] * 4 + [3] * 2 + [2] * 4 + [4] * 2], names)
    unchanged = prediction_of(before.segment_map, names)
    assert count_erased(before, unchanged, truth) == ErasedCount(0, 0)
    # half of grass, more than half of sky, all of the wrong third
    after = prediction_of([[1, 1, 0, 0] + [0] * 2 + [2, 0, 0, 0] + [4] * 2], names)
    assert count_erased(before, after, truth) == ErasedCount(erased=2, wrong=1)
    nothing = prediction_of([[0] * 12], {})
    assert count_erased(nothing, nothing, truth) == ErasedCount(0, 0)
