from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import refine
from make.predictions import fake_prediction
from refine.fusion.evidence import Evidence, to_original_boxes
from refine.fusion.fuse import fuse
from refine.options import FusionOptions, MergeOptions, RelationsOptions, UnknownErasingOptions
from refine.types import PairOcclusions

THINGS, STUFF, SIZE = 4, 3, (96, 128)
CATEGORIES = [
    {"id": k + 1, "name": f"c{k}", "isthing": int(k < THINGS)} for k in range(THINGS + STUFF)
]


def make_raw():
    """Overlapping instances and smooth fields, at a network size that is the image's."""
    raw = fake_prediction(
        num_things=THINGS,
        num_categories=THINGS + STUFF,
        num_detections=12,
        image_size=SIZE,
        original_size=SIZE,
        dominant=6,
        cell=8,
    )
    y = torch.linspace(-1, 1, 28)
    solid = 8 - 9 * (y[:, None] ** 2 + y**2)  # ellipses instead of noise
    pairs = torch.cartesian_prod(torch.arange(12), torch.arange(12))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    occlusions = {"occlusion": PairOcclusions(pairs=pairs, probabilities=torch.rand(len(pairs)))}
    return replace(raw, mask_logits=solid.expand(12, 28, 28), occlusions=occlusions)


def as_arrays(raw, evidence):
    """What somebody else's networks would give."""
    masks = np.zeros((len(raw.scores), *SIZE), bool)
    for instance in evidence.instances(MergeOptions(score_thresh=0.0)):
        masks[instance.index][instance.crop.slices] = instance.crop.mask
    matrix = torch.zeros(len(raw.scores), len(raw.scores))
    answers = raw.occlusions["occlusion"]
    matrix[answers.pairs[:, 0], answers.pairs[:, 1]] = answers.probabilities
    instances = {"masks": masks, "scores": raw.scores, "labels": raw.labels}
    return instances | {"boxes": to_original_boxes(raw)}, matrix


KNOBS = {"merge.score_thresh": 0.2, "relations.overlap_thresh": 0.1, "relations.sigma": 0.5}


@pytest.mark.parametrize("kind", ["score", "area", "shr", "occlusion", "soft_occlusion"])
@pytest.mark.parametrize("erasing", [False, True])
def test_arrays_are_fused_as_the_pipeline_fuses_its_own_evidence(kind, erasing):
    raw = make_raw()
    evidence = Evidence(raw, num_things=THINGS)
    options = FusionOptions(
        merge=MergeOptions(score_thresh=0.2),
        relations=RelationsOptions(kind=kind, overlap_thresh=0.1, sigma=0.5),
    )
    instances, occlusions = as_arrays(raw, evidence)
    semantic, knobs = evidence.semantic_map(), dict(KNOBS)
    if erasing:
        knobs |= {"unknown_erasing.mode": "score", "unknown_erasing.score_thresh": 0.95}
        options.unknown_erasing = UnknownErasingOptions(mode="score", score_thresh=0.95, at="input")
        logits = F.interpolate(raw.semantic_logits[None], scale_factor=4.0, mode="bilinear")[0]
        semantic = logits[:, : SIZE[0], : SIZE[1]]
    expected = fuse(evidence, options, stuff_area_limit_px=64)
    found = refine.fuse_predictions(
        instances,
        semantic,
        categories=CATEGORIES,
        relation=kind,
        occlusions=occlusions,
        fusion=knobs,
        stuff_area_limit_px=64,
    )
    assert (found.segment_map == expected.segment_map).all()
    assert [(s.category, s.area, s.score) for s in found.segments] == [
        (s.category, s.area, s.score) for s in expected.segments
    ]
    if erasing:
        plain = fuse(
            evidence,
            replace(options, unknown_erasing=UnknownErasingOptions()),
            stuff_area_limit_px=64,
        )
        assert (plain.segment_map != expected.segment_map).any()


RUG_AND_CAT = [{"id": 8, "name": "rug", "isthing": 0}, {"id": 5, "name": "cat", "isthing": 1}]


def fuse_two(semantic, *, relation="score", **changes):
    masks = np.zeros((2, 4, 6))
    masks[0, :, :4] = masks[1, :, 3:5] = 0.7
    instances = {"masks": masks, "scores": [0.8, 0.9], "labels": [1, 1]} | changes
    return refine.fuse_predictions(
        instances, semantic, categories=RUG_AND_CAT, relation=relation, stuff_area_limit_px=1
    )


def test_categories_are_positions_in_the_list_whatever_its_order():
    semantic = np.zeros((4, 6), np.int64)
    semantic[0, 5] = 255
    result = fuse_two(semantic)
    assert [(s.name, s.category_id, s.area) for s in result.segments] == [
        ("cat", 5, 8),
        ("cat", 5, 12),
        ("rug", 8, 3),
    ]
    assert result.segment_map[0].tolist() == [2, 2, 2, 1, 1, 0]


def test_logits_probabilities_and_torchvision_masks_are_read_alike():
    logits = torch.randn(2, 4, 6)
    maps = [
        fuse_two(semantic, masks=masks).segment_map
        for semantic in (logits, logits.softmax(0), logits.argmax(0))
        for masks in (torch.ones(2, 1, 4, 6) * 0.6, torch.ones(2, 4, 6, dtype=torch.bfloat16))
    ]
    assert all((m == maps[0]).all() for m in maps)
    assert (maps[0] == 1).all()


def test_no_instances():
    result = fuse_two(np.zeros((4, 6), int), masks=[], scores=[], labels=[])
    assert [s.name for s in result.segments] == ["rug"]
    assert result.draw().size == (6, 4)


MAP = np.zeros((4, 6), int)


@pytest.mark.parametrize(
    ("semantic", "changes", "message"),
    [
        (MAP[0], {}, r"semantic: shape \(6,\); expected"),
        (MAP + 7, {}, "semantic: expected integers 0 to 1, or 255"),
        (MAP * 0.5, {}, "semantic: expected integers"),
        (np.zeros((3, 4, 6)), {}, "semantic: 3 channels; expected 2"),
        (np.full((2, 4, 6), np.nan), {}, "of finite values"),
        (MAP[:3], {}, r"masks of shape \(2, 4, 6\); expected"),
        (MAP, {"scores": [0.5]}, "instances: 1 scores, 2 labels"),
        (MAP, {"scores": [0.5, np.nan]}, r"\['scores'\]: expected numbers in \[0, 1\]"),
        (MAP, {"labels": [1.0, 1.0]}, r"\['labels'\]: float64; expected integers"),
        (MAP, {"labels": [1, 0]}, r"\['labels'\]: 0 is no position of a thing"),
        (MAP, {"boxes": [[0, 0, 1]]}, r"\['boxes'\]: shape \(1, 3\); expected \[2, 4\]"),
        (MAP, {"relation": "depth"}, "relations.kind='depth': expected one of"),
        (MAP, {"relation": "occlusion"}, "no occlusion head"),
    ],
)
def test_what_does_not_fit_is_refused(semantic, changes, message):
    with pytest.raises(refine.RefineError, match=message):
        fuse_two(semantic, **changes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"occlusions": np.zeros((3, 3))}, r"occlusions: shape \(3, 3\); expected \(1, 1\)"),
        ({"fusion": {"unknown_erasing.mode": "score"}}, "needs the semantic prediction as"),
        ({"fusion": {"merge.overlap": 1}}, "overlap"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    one = {"masks": np.ones((1, 4, 6)), "scores": [0.9], "labels": [1]}
    with pytest.raises(refine.RefineError, match=message):
        refine.fuse_predictions(one, MAP, categories=RUG_AND_CAT, **settings)
    with pytest.raises(refine.RefineError, match="no 'scores'"):
        refine.fuse_predictions({"masks": [], "labels": []}, MAP, categories=RUG_AND_CAT)
    two = {"masks": np.ones((2, 4, 6)), "scores": [0.9, 0.8], "labels": [1, 1]}
    with pytest.raises(refine.RefineError, match="off the diagonal"):
        refine.fuse_predictions(two, MAP, categories=RUG_AND_CAT, occlusions=-np.ones((2, 2)))
