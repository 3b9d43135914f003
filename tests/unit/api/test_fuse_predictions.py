from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import refine
from make.predictions import fake_prediction
from refine.api.panoptic_result import PanopticResult
from refine.config.instantiate import to_options
from refine.fusion.evidence import Evidence, to_original_boxes
from refine.fusion.fuse_evidence import fuse
from refine.options import FusionOptions, MergeOptions
from refine.types import PairOcclusions

THINGS, SIZE, COUNT = 4, (96, 128), 12
CATEGORIES = [{"id": k + 1, "name": f"c{k}", "isthing": int(k < THINGS)} for k in range(7)]


@pytest.fixture
def evidence():
    """Overlapping ellipses and smooth fields, at a network size that is the image's."""
    sizes = {"num_things": THINGS, "num_categories": 7, "num_detections": COUNT}
    raw = fake_prediction(**sizes, image_size=SIZE, original_size=SIZE, dominant=6, cell=8)
    y = torch.linspace(-1, 1, 28)
    ellipses = (8 - 9 * (y[:, None] ** 2 + y**2)).expand(COUNT, 28, 28)
    pairs = (1 - torch.eye(COUNT)).nonzero()
    occlusions = {"occlusion": PairOcclusions(pairs=pairs, probabilities=torch.rand(len(pairs)))}
    raw = replace(raw, mask_logits=ellipses, occlusions=occlusions)
    return Evidence(raw, num_things=THINGS)


@pytest.mark.parametrize("kind", ["score", "area", "shr", "occlusion", "soft_occlusion"])
@pytest.mark.parametrize("erasing", [False, True])
def test_arrays_are_fused_as_the_pipeline_fuses_its_own_evidence(evidence, kind, erasing):
    raw, masks, matrix = evidence.raw, np.zeros((COUNT, *SIZE), bool), torch.eye(COUNT)
    for instance in evidence.instances(MergeOptions(score_thresh=0.0)):
        masks[instance.index][instance.crop.slices] = instance.crop.mask
    matrix[matrix == 0] = raw.occlusions["occlusion"].probabilities
    semantic = evidence.semantic_map()
    changes = {"merge.score_thresh": 0.2, "relations.overlap_thresh": 0.1, "relations.sigma": 0.5}
    if erasing:
        changes |= {"unknown_erasing.mode": "score", "unknown_erasing.score_thresh": 0.95}
        logits = F.interpolate(raw.semantic_logits[None], scale_factor=4.0, mode="bilinear")[0]
        semantic = logits[:, : SIZE[0], : SIZE[1]]
    found = refine.fuse_predictions(
        {
            "masks": masks,
            "scores": raw.scores,
            "labels": raw.labels,
            "boxes": to_original_boxes(raw),
        },
        semantic,
        categories=CATEGORIES,
        relation=kind,
        occlusions=matrix,
        fusion=changes,
        stuff_area_limit_px=64,
    )
    own = changes | {"relations.kind": kind, "unknown_erasing.at": "input"}
    options = to_options({}, FusionOptions, changes=own)
    expected = fuse(evidence, options, stuff_area_limit_px=64)
    assert (found.segment_map == expected.segment_map).all()
    assert found.segments == PanopticResult.of(expected, found.categories).segments
    options.unknown_erasing.mode = "off"
    plain = fuse(evidence, options, stuff_area_limit_px=64)
    assert (plain.segment_map != expected.segment_map).any() == erasing


RUG_AND_CAT = [{"id": 8, "name": "rug", "isthing": 0}, {"id": 5, "name": "cat", "isthing": 1}]
MAP = np.zeros((4, 6), int)


def fuse_two(semantic=MAP, *, relation="score", occlusions=None, fusion=None, **changes):
    masks = np.zeros((2, 4, 6))
    masks[0, :, :4] = masks[1, :, 3:5] = 0.7
    return refine.fuse_predictions(
        {"masks": masks, "scores": [0.8, 0.9], "labels": [1, 1]} | changes,
        semantic,
        categories=RUG_AND_CAT,
        relation=relation,
        occlusions=occlusions,
        fusion=fusion,
        stuff_area_limit_px=1,
    )


def test_categories_are_positions_in_the_list_whatever_its_order():
    semantic = MAP.copy()
    semantic[0, 5] = 255
    result = fuse_two(semantic)
    found = [(s.name, s.category_id, s.area) for s in result.segments]
    assert found == [("cat", 5, 8), ("cat", 5, 12), ("rug", 8, 3)]
    assert result.segment_map[0].tolist() == [2, 2, 2, 1, 1, 0]
    nothing = fuse_two(masks=[], scores=[], labels=[])
    assert [s.name for s in nothing.segments] == ["rug"]
    assert nothing.draw().size == (6, 4)


def test_logits_probabilities_and_torchvision_masks_are_read_alike():
    logits = torch.tensor([2.0, 1.0])[:, None, None].expand(2, 4, 6)  # the rug, to 73 %
    masks = torch.zeros(2, 1, 4, 6, dtype=torch.bfloat16)
    masks[0, ..., :4] = masks[1, ..., 3:5] = 0.7
    mirrored, swapped = logits.numpy()[..., ::-1], logits.numpy().astype(">f4")
    for semantic in (logits, logits.softmax(0), mirrored, swapped):
        for thresh, names in ((0.7, ["cat", "cat", "rug"]), (0.75, ["cat", "cat"])):
            erasing = {"unknown_erasing.mode": "score", "unknown_erasing.score_thresh": thresh}
            result = fuse_two(semantic, masks=masks, fusion=erasing)
            assert [s.name for s in result.segments] == names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"semantic": MAP[0]}, r"semantic: int64 of shape \(6,\); expected \[H, W\] integers 0"),
        ({"semantic": MAP + 7}, "semantic: int64"),
        ({"semantic": MAP * 0.5}, "semantic: float64"),
        ({"semantic": np.zeros((3, 4, 6))}, r"or \[2, H, W\] finite numbers"),
        ({"semantic": np.full((2, 4, 6), np.nan)}, "finite numbers"),
        ({"semantic": MAP[:3]}, r"shapes \(2,\), \(2,\) and \(2, 4, 6\); expected .*, 3, 6\]"),
        ({"scores": [0.5]}, "instances: scores, labels and masks have the shapes"),
        ({"scores": [0.5, np.nan]}, r"scores in \[0, 1\]"),
        ({"labels": [1.0, 1.0]}, "expected integer labels"),
        ({"labels": [1, 0]}, r"\['labels'\]: 0 is no position of a thing in categories \(0 to 1\)"),
        ({"boxes": [[0, 0, 1, float("nan")]] * 2}, r"\['boxes'\]: expected finite pixels"),
        ({"boxes": [[0, 0, 1]]}, r"\['boxes'\]: shape \(1, 3\); expected \[2, 4\]"),
        ({"relation": "depth"}, "relations.kind='depth': expected one of"),
        ({"relation": "occlusion"}, "no occlusion head"),
        ({"occlusions": np.zeros((3, 3))}, r"occlusions: shape \(3, 3\); expected \(2, 2\)"),
        ({"occlusions": -np.ones((2, 2))}, "occlusions: expected probabilities in"),
        ({"fusion": {"unknown_erasing.mode": "score"}}, "needs the semantic prediction as"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(refine.RefineError, match=message):
        fuse_two(**arguments)
    with pytest.raises(refine.RefineError, match="instances: no 'scores'; give masks, scores"):
        refine.fuse_predictions({"masks": [], "labels": []}, MAP, categories=RUG_AND_CAT)
