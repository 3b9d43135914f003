"""Rule by rule, the options of model=panoptic_fpn_d2 do what detectron2 does."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from make.batches import fake_batch, fake_sample, tiny_options
from make.scenes import raw_of
from oracles import detectron2 as d2
from refine.config import compose
from refine.data.transforms import resized_size
from refine.detector.backbone import build_backbone
from refine.detector.box_stage import BoxHead, BoxStage
from refine.detector.losses import semantic_loss
from refine.detector.proposals import ProposalNetwork, ProposalOutput
from refine.detector.refine_net import RefineNet
from refine.detector.semantic_head import SemanticPredictor
from refine.errors import RefineError
from refine.fusion.evidence import Evidence
from refine.fusion.fuse_evidence import fuse
from refine.ops.boxes import limits_of
from refine.ops.roi_align import assign_levels
from refine.options import (
    AnchorOptions,
    BackboneOptions,
    FusionOptions,
    ProposalOptions,
    RoIOptions,
)

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
NUM_THINGS, NUM_CATEGORIES = 80, 133


@pytest.mark.parametrize("longest", [1333, 700])
def test_images_have_detectron2_s_size(longest):
    def theirs(height, width):
        scale = 800 / min(height, width)
        new = [800, scale * width] if height < width else [scale * height, 800]
        if max(new) > longest:
            new = [n * (longest / max(new)) for n in new]
        return tuple(int(n + 0.5) for n in new)

    sizes = [(h, w) for h in range(50, 641, 7) for w in range(50, 641, 10)]
    assert [s for s in sizes if resized_size(s, 800, longest) != theirs(*s)] == []


# --- proposals


def _proposal_network(anchor_grid="exact"):
    options = ProposalOptions(anchor_grid=anchor_grid)
    return ProposalNetwork(8, anchors=AnchorOptions(), options=options)


@pytest.mark.parametrize("size", [(64, 96), (96, 160), (32, 32)])
def test_anchors(size):
    features = [torch.zeros(1, 8, -(-size[0] // s), -(-size[1] // s)) for s in (4, 8, 16, 32, 64)]
    ours = _proposal_network()(features, torch.zeros(1, 3, *size)).anchors
    for k, (feature, boxes) in enumerate(zip(features, ours, strict=True)):
        theirs = d2.anchors(*feature.shape[2:], stride=4 * 2**k, size=32 * 2**k)
        torch.testing.assert_close(boxes, theirs, **CLOSE)
    default = _proposal_network("rounded")(features, torch.zeros(1, 3, *size)).anchors
    assert not torch.allclose(default[0], ours[0], atol=0.1)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_box_codes_and_their_clamp(stage):
    boxes = torch.rand(200, 4) * 100
    boxes[:, 2:] += boxes[:, :2] + 1
    codes = torch.randn(200, 4) * torch.tensor([2.0, 2.0, 30.0, 30.0])
    weights, coder = (1, 1, 1, 1), _proposal_network().box_coder
    if stage:  # 0 is the proposal network
        weights = tuple(stage * w for w in (10, 10, 5, 5))
        coder = BoxStage(BoxHead(1, 2, fc_channels=8), options=RoIOptions(), number=stage).box_coder
    theirs = d2.decode_all(codes, boxes, weights)
    torch.testing.assert_close(coder.decode(codes, boxes), theirs, rtol=1e-5, atol=1e-3)
    grown = (theirs[:, 2] - theirs[:, 0]) / (boxes[:, 2] - boxes[:, 0])
    assert stage > 1 or grown.max() == pytest.approx(1000 / 16, rel=1e-3)  # some are clamped


@pytest.mark.parametrize(("pre_nms", "post_nms"), [(1000, 1000), (30, 1000), (30, 7), (1, 1)])
def test_proposal_selection(pre_nms, post_nms):
    network, size = _proposal_network(), (60, 90)
    shapes_ = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    features = [torch.zeros(1, 8, *s) for s in shapes_]
    grid = network(features, torch.zeros(1, 3, 64, 96)).anchors
    count = [min(len(g), 60) for g in grid]
    grid = [g[:n] for g, n in zip(grid, count, strict=True)]
    objectness = [torch.randn(2, n) for n in count]
    deltas = [torch.randn(2, n, 4) * 0.5 for n in count]
    deltas[1][:, ::5, 0] = 50.0  # far outside: no area after clipping
    ours = network.propose(
        ProposalOutput(objectness, deltas, grid), [size, (40, 50)],
        pre_nms=pre_nms, post_nms=post_nms,
    )  # fmt: skip
    for k, image_size in enumerate([size, (40, 50)]):
        theirs = d2.find_proposals(
            [o[k] for o in objectness], [d[k] for d in deltas], grid, image_size,
            pre_nms=pre_nms, post_nms=post_nms,
        )  # fmt: skip
        torch.testing.assert_close(ours[k], theirs, **CLOSE)


# --- boxes


def _boxes(count, span=900.0):
    boxes = torch.rand(count, 4) * span
    boxes[:, 2:] = boxes[:, :2] + torch.rand(count, 2) * span + 0.5
    return boxes


def test_level_assignment():
    sides = [0.0, 1e-3, 1.0, 111.99, 112.0, 223.99, 224.0, 224.01, 447.99, 448.0, 896.0, 5000.0]
    exact = torch.tensor([[0.0, 0.0, s, s] for s in sides])
    boxes = torch.cat([exact, _boxes(500)])
    ours = assign_levels(boxes, canonical_size_px=224, min_level=2, max_level=5)
    assert ours.tolist() == [d2.level_of(box) for box in boxes.tolist()]
    assert {*ours.tolist()} == {2, 3, 4, 5}


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("top", [100, 6])
def test_detections(class_agnostic, top):
    size, num_things = (300, 400), 5
    limits = limits_of([size], torch.device("cpu"))[0]
    proposals = _boxes(60, 200)
    logits = torch.randn(60, num_things + 1) * 2
    deltas = torch.randn(60, 1 if class_agnostic else num_things, 4)
    deltas[::6, :, 0], logits[::6, 0] = 60.0, 7.0  # sure of a box outside the image
    stage = BoxStage(
        BoxHead(1, num_things, fc_channels=8, class_agnostic=class_agnostic),
        options=RoIOptions(detection_rules="detectron2", max_detections=top),
    )
    scores = logits.softmax(1)
    ours = stage.detect(proposals, scores[:, :-1], deltas, limits)
    decode = partial(d2.decode_all, boxes=proposals, weights=(10, 10, 5, 5))
    decoded = torch.stack([decode(d) for d in deltas.unbind(1)], dim=1)
    boxes, their_scores, labels = d2.detect(decoded, scores, size, top=top)
    kept = d2.has_area(boxes)  # detectron2 drops them when it resizes
    assert (~kept).any()
    torch.testing.assert_close(ours.boxes, boxes[kept], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(ours.scores, their_scores[kept])
    assert ours.labels.tolist() == labels[kept].tolist()
    stage.options = RoIOptions(max_detections=top)
    assert top == 100 or len(stage.detect(proposals, scores[:, :-1], deltas, limits).boxes) == top


def test_a_score_at_the_threshold_is_not_enough():
    proposals, deltas = torch.tensor([[0.0, 0, 10, 10]]), torch.zeros(1, 1, 4)
    scores, limits = torch.tensor([[0.25]]), torch.full((4,), 20.0)
    for rules, expected in (("proper", 1), ("detectron2", 0)):
        options = RoIOptions(detection_rules=rules, score_thresh=0.25)
        stage = BoxStage(BoxHead(1, 1, fc_channels=8), options=options)
        assert len(stage.detect(proposals, scores, deltas, limits).boxes) == expected


# --- semantic head


def test_semantic_loss_is_that_of_the_merged_labels():
    predictor = SemanticPredictor(4, 7, num_merged=5)
    feature, targets = torch.randn(1, 4, 2, 3), torch.randint(0, 7, (1, 8, 12)).byte()
    targets[0, 0, :3] = 255
    assert torch.equal(SemanticPredictor(4, 7).merge_targets(targets), targets)
    ours = semantic_loss(predictor(feature), predictor.merge_targets(targets))
    merged = torch.where(targets < 5, 0, targets.int() - 4)
    merged[targets == 255] = 255
    large = F.interpolate(predictor.predictor(feature), scale_factor=4, mode="bilinear")
    theirs = F.cross_entropy(large, merged.long(), ignore_index=255)
    torch.testing.assert_close(ours, theirs)
    weight = predictor.predictor.weight
    (mine,), (other,) = (torch.autograd.grad(x, weight, retain_graph=True) for x in (ours, theirs))
    torch.testing.assert_close(mine, other)


def test_a_network_with_merged_things_trains():
    options = tiny_options()
    options.semantic.merge_things, options.proposals.anchor_grid = True, "exact"
    network = RefineNet(options, anchors=AnchorOptions(), num_things=3, num_categories=5)
    losses = network.loss(
        fake_batch([fake_sample(np.random.default_rng(0))]),
        generator=torch.Generator().manual_seed(0),
    )
    assert losses["semantic"] < 100  # a target that is NEVER would cost ten thousand
    losses["semantic"].backward()
    predictor = network.ibpp.semantic_predictor.predictor
    assert len(predictor.weight) == 3
    assert predictor.weight.grad.abs().sum() > 0


def test_ibpp_cannot_read_merged_things():
    with pytest.raises(RefineError, match=r"semantic\.merge_things=True"):
        compose("train", ["model=refine", "model.semantic.merge_things=true"])


# --- backbone


def test_stride_in_1x1_is_where_msra_has_it():
    options = [BackboneOptions(stride_in_1x1=value, dcn_stages=[3]) for value in (False, True)]
    with torch.device("meta"):
        plain, moved = map(build_backbone, options)
    for name, stage in moved.stages.items():
        for k, block in enumerate(stage):
            stride = (2, 2) if k == 0 and name != "layer1" else (1, 1)
            assert (tuple(block.conv1.stride), tuple(block.conv2.stride)) == (stride, (1, 1))
    assert all(tuple(m.offsets.stride) == (1, 1) for m in moved.modules() if hasattr(m, "offsets"))
    assert tuple(plain.stages["layer2"][0].conv2.stride) == (2, 2)


# --- after the network

SIZES = [
    # network, original, padded
    ((64, 96), (64, 96), (64, 96)),
    ((61, 90), (61, 90), (64, 96)),  # padded
    ((61, 90), (37, 48), (64, 96)),  # shrunk
    ((61, 90), (137, 200), (64, 96)),  # enlarged
    ((33, 32), (200, 7), (64, 32)),  # another aspect ratio
    ((1, 1), (3, 2), (32, 32)),
    ((64, 64), (1, 1), (64, 64)),
]


def _raw(logits, image_size, original_size, *, count=6):
    corners = torch.rand(count, 2, 2) * torch.tensor(image_size[::-1])
    raw = raw_of(
        torch.cat([corners.amin(1), corners.amax(1)], dim=1),
        torch.linspace(0.95, 0.3, count).tolist(),
        labels=torch.randint(0, NUM_THINGS, (count,)).tolist(),
        semantic=logits,
        size=image_size,
        original=original_size,
    )
    noise = torch.randn(count, 1, 4, 4) * 5
    raw.mask_logits = F.interpolate(noise, size=28, mode="bilinear")[:, 0]
    return raw


def _merged_logits(padded):
    """54 smooth logits at stride 4, and how the network gives them."""
    seeds = torch.randn(1, 54, 3, 4) * 3
    theirs = F.interpolate(seeds, size=[p // 4 for p in padded], mode="bilinear")[0]
    theirs = theirs + torch.randn_like(theirs) * 0.2
    ours = torch.full((NUM_CATEGORIES, *theirs.shape[1:]), -1e4)
    ours[[0, *range(NUM_THINGS, NUM_CATEGORIES)]] = theirs
    return ours, theirs


@pytest.mark.parametrize(("image_size", "original_size", "padded"), SIZES)
@pytest.mark.parametrize("area", [1, 40])
def test_paste_and_merge(image_size, original_size, padded, area):
    ours, theirs = _merged_logits(padded)
    raw = _raw(ours, image_size, original_size)
    prediction = fuse(
        Evidence(raw, num_things=NUM_THINGS),
        FusionOptions(semantic_resize="two_steps"),
        stuff_area_limit_px=area,
    )
    segment_map, segments = d2.panoptic(
        raw.boxes, raw.scores, raw.labels, raw.mask_logits.sigmoid(), theirs, image_size,
        original_size, area=area,
    )  # fmt: skip
    assert (prediction.segment_map != segment_map).mean() < 1e-3  # ties of the semantic map
    assert [(s.id, s.is_thing, s.category) for s in prediction.segments] == [
        (number, is_thing, category if is_thing else category + NUM_THINGS - 1)
        for number, is_thing, category in segments
    ]
