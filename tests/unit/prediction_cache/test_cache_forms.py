from dataclasses import replace

import pytest
import torch

from make.predictions import (
    COCO_SIZED,
    SMALL,
    a_header,
    assert_same,
    fake_prediction,
    through_cache,
    write_all,
)
from refine.fusion.evidence import Evidence
from refine.fusion.fuse_evidence import fuse
from refine.options import FusionOptions
from refine.prediction_cache.header import FORMS


@pytest.mark.parametrize("noise", [0.3, 3.0])
def test_default_form_takes_less_than_two_megabytes(tmp_path, noise):
    raw = fake_prediction(**COCO_SIZED, heads=("occlusion",), rankings=("srm",), noise=noise)
    header = a_header([1], "compact", 133, occlusion_heads=("occlusion",), ranking_heads=("srm",))
    writer = write_all(tmp_path, header, {1: raw})
    assert 500_000 < writer.image_path(1).stat().st_size <= 2_000_000


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_fusion_sees_the_same(tmp_path, form, layout):
    raw = fake_prediction(**SMALL)
    raw.semantic_logits = raw.semantic_logits[None].contiguous(memory_format=layout)[0]
    got = through_cache(tmp_path, raw, form=form)
    if form == "full":
        assert_same(raw, got, "mask_logits", "semantic_logits")
    assert torch.allclose(got.mask_logits, raw.mask_logits, rtol=1e-3, atol=1e-4)
    before, after = (r.semantic_logits.softmax(dim=0).amax(dim=0) for r in (raw, got))
    assert (before - after).abs().max() < 1e-3
    before, after = (
        fuse(Evidence(r, num_things=6), FusionOptions(), stuff_area_limit_px=64) for r in (raw, got)
    )
    assert (before.segment_map != after.segment_map).mean() <= (0 if form == "full" else 1e-3)
    assert [s.category for s in before.segments] == [s.category for s in after.segments]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"num_detections": 0},
        {"num_detections": 1},
        {"image_size": (1, 1), "original_size": (1, 1)},
        {"num_categories": 1, "num_things": 1, "dominant": 1},
        {"num_categories": 255, "dominant": 200},
    ],
    ids=str,
)
def test_detections_pairs_and_rankings_come_back_as_they_were(tmp_path, form, shape):
    raw = fake_prediction(**(SMALL | shape), heads=("soft", "hard"), rankings=("srm",))
    raw.occlusions["hard"] = replace(raw.occlusions["soft"])  # shares its tensors
    got = through_cache(tmp_path, raw, form=form)
    assert_same(raw, got, "boxes", "scores", "labels")
    assert (got.image_size, got.original_size) == (raw.image_size, raw.original_size)
    assert got.mask_logits.shape == raw.mask_logits.shape
    assert (set(got.occlusions), set(got.rankings)) == ({"soft", "hard"}, {"srm"})
    for name, answers in raw.occlusions.items():
        assert_same(answers, got.occlusions[name], "pairs", "probabilities")
    assert torch.equal(got.rankings["srm"], raw.rankings["srm"])
    best = raw.semantic_logits.argmax(dim=0)
    assert torch.equal(got.semantic_logits.argmax(dim=0), best)


@pytest.mark.parametrize("form", FORMS)
def test_logits_beyond_float16(tmp_path, form):
    raw = fake_prediction(**SMALL)
    raw.semantic_logits = raw.semantic_logits * 1e5
    raw.mask_logits = raw.mask_logits * 1e5
    got = through_cache(tmp_path, raw, form=form)
    assert torch.equal(got.semantic_logits.argmax(dim=0), raw.semantic_logits.argmax(dim=0))
    assert got.semantic_logits.isfinite().all()
    assert torch.equal(got.mask_logits > 0, raw.mask_logits > 0)
