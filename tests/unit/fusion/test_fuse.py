"""From a raw prediction to the panoptic map, at original size."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from make.errors import refused
from make.scenes import raw_of
from refine.errors import RefineError
from refine.fusion.evidence import Evidence
from refine.fusion.fuse_evidence import fuse
from refine.options import FusionOptions, MergeOptions, UnknownErasingOptions

THING, GRASS, SKY = 0, 1, 2


def raw_prediction(*, boxes=((8, 4, 24, 20),), scores=(0.9,), original=(32, 64)):
    """Sky over grass on a 32 x 64 image; solid masks in the boxes."""
    semantic = torch.zeros(3, 8, 16)
    semantic[GRASS, 4:], semantic[SKY, :4] = 5, 5
    return raw_of(boxes, scores, semantic=semantic, original=original)


def run(raw, *, limit=0, **options):
    return fuse(
        Evidence(raw, num_things=1),
        FusionOptions(merge=MergeOptions(**options)),
        stuff_area_limit_px=limit,
    )


def summary(prediction):
    return [(s.category, s.area) for s in prediction.segments]


def test_a_box_before_sky_and_grass():
    result = run(raw_prediction())
    assert summary(result) == [(THING, 256), (GRASS, 1024 - 64), (SKY, 1024 - 192)]
    assert (result.segment_map[4:20, 8:24] == 1).all()


def test_boxes_are_scaled_to_the_original_size_in_both_directions():
    result = run(raw_prediction(original=(64, 32)))
    assert result.segment_map.shape == (64, 32)
    assert (result.segment_map[8:40, 4:12] == 1).all()
    assert result.segments[0].area == 32 * 8


def test_limits_are_those_of_the_options():
    raw = raw_prediction(boxes=((8, 4, 24, 20), (0, 0, 4, 4)), scores=(0.9, 0.4))
    assert [s.is_thing for s in run(raw, limit=5000).segments] == [True]
    assert [s.is_thing for s in run(raw, limit=5000, score_thresh=0.3).segments] == [True, True]
    assert run(raw, score_thresh=0.95, limit=5000).segments == ()


def test_masks_are_probabilities():
    raw = raw_prediction()
    raw.mask_logits[:, :, 14:] = 1.0  # a probability of .73
    assert run(raw).segments[0].area == 256
    assert run(raw, mask_thresh=0.8).segments[0].area == pytest.approx(128, abs=20)


@pytest.mark.parametrize(("dtype", "shift"), [(torch.bfloat16, 0), (torch.half, 1000)])
def test_half_precision_is_accepted(dtype, shift):
    """Also logits whose sum leaves it."""
    raw = raw_prediction()
    raw.semantic_logits += shift
    masks, semantic = raw.mask_logits.to(dtype), raw.semantic_logits.to(dtype)
    half = replace(raw, mask_logits=masks, semantic_logits=semantic)
    assert np.array_equal(run(half).segment_map, run(raw).segment_map)


def test_an_oracle_needs_the_truth():
    options = FusionOptions(unknown_erasing=UnknownErasingOptions(mode="oracle"))
    with refused("unknown_erasing.mode=oracle needs ground truth"):
        fuse(Evidence(raw_prediction(), num_things=1), options, stuff_area_limit_px=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("field", ["boxes", "scores", "mask_logits", "semantic_logits"])
def test_output_that_is_not_finite_is_refused(field, value):
    raw = raw_prediction()
    getattr(raw, field).view(-1)[-1] = value
    with pytest.raises(RefineError, match=rf"not finite \({field}\).*diverged"):
        run(raw)
