"""Checkpoints of detectron2 under our own keys: names, layouts, and what is refused."""

import json
import re
from functools import cache

import numpy as np
import pytest
import torch

from make.errors import refused
from oracles.detectron2_names import cell_anchors, shapes
from refine.categories import CategoryTable
from refine.coco_format.coco_categories import coco_categories
from refine.detector.refine_net import RefineNet
from refine.weights.detectron2 import (
    PanopticFPN,
    convert_state,
    recognise,
)
from refine.weights.stored import read_state
from refine.workflows.convert_weights import compose_settings, convert_detectron2

KINDS = [PanopticFPN("r50", False), PanopticFPN("r101", False), PanopticFPN("r101", True)]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=["r50", "r101", "cascade"])
ANCHORS = "proposal_generator.anchor_generator.cell_anchors."


@cache
def _network(kind):
    cfg = compose_settings(kind)
    with torch.device("meta"):
        return RefineNet(cfg.model, anchors=cfg.data.anchors, num_things=80, num_categories=133)


def _state(kind):
    """Tensors that take no memory: each holds one number, its own."""
    named = shapes(kind.backbone, cascade=kind.cascade)
    state = {name: torch.tensor(float(k)).expand(s) for k, (name, s) in enumerate(named.items())}
    for level, size in enumerate((32, 64, 128, 256, 512)):
        state[f"{ANCHORS}{level}"] = torch.from_numpy(cell_anchors(size))
    return state


def _convert(state, kind):
    return convert_state(state, _network(kind), cascade=kind.cascade, source="model.pkl")


@every_kind
def test_every_tensor_has_its_place(kind):
    state = _state(kind)
    assert recognise(state, source="x") == kind
    network, converted = _network(kind).state_dict(), _convert(state, kind)
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in network.items()}
    values = [float(v.flatten()[0]) for k, v in converted.items() if not k.startswith("pixel_")]
    # each number once, so nothing is used twice and nothing is left over but the anchors
    expected = [float(v.flatten()[0]) for k, v in state.items() if not k.startswith(ANCHORS)]
    assert sorted(values) == sorted(expected)


def test_layouts():
    state = _state(KINDS[0])
    names = (
        "backbone.bottom_up.stem.conv1.weight", "roi_heads.box_predictor.cls_score.weight",
        "roi_heads.box_predictor.cls_score.bias", "roi_heads.mask_head.predictor.weight",
    )  # fmt: skip
    for name in names:
        state[name] = torch.randn(state[name].shape)
    converted = _convert(state, KINDS[0])
    assert torch.equal(converted["backbone.stem.conv1.weight"][:, 0], state[names[0]][:, 2])
    classifier = "box_cascade.stages.0.head.classifier"
    assert torch.equal(converted[f"{classifier}.bias"][0], state[names[2]][80])  # background
    assert torch.equal(converted[f"{classifier}.weight"][1:], state[names[1]][:80])
    predictor = converted["ibpp.mask_heads.0.predictor_weight"]
    assert torch.equal(predictor, state[names[3]][:, :, 0, 0])


def test_pixel_statistics_are_the_checkpoint_s_or_the_default_in_rgb():
    state = _state(KINDS[0])
    converted = _convert(state, KINDS[0])
    np.testing.assert_allclose(converted["pixel_mean"].flatten(), [123.675, 116.28, 103.53])
    assert converted["pixel_std"].flatten().tolist() == [1, 1, 1]
    state |= {"pixel_mean": torch.tensor([1.0, 2, 3]), "pixel_std": torch.tensor([4.0, 5, 6])}
    converted = _convert(state, KINDS[0])
    assert converted["pixel_mean"].flatten().tolist() == [3, 2, 1]
    assert converted["pixel_std"].flatten().tolist() == [6, 5, 4]


def test_what_does_not_fit_is_listed_in_one_line_and_leaves_no_file(tmp_path):
    state = _state(KINDS[0])
    del state["backbone.fpn_lateral3.bias"], state["sem_seg_head.p5.0.weight"]
    state["roi_heads.keypoint_head.weight"] = torch.zeros(1)
    state["roi_heads.box_predictor.cls_score.bias"] = torch.zeros(9)
    with refused(
        "model.pkl ",
        "missing: backbone.fpn_lateral3.bias, sem_seg_head.p5.0.weight",
        "unknown: roi_heads.keypoint_head.weight",
        "of another shape: roi_heads.box_predictor.cls_score.bias [9]",
    ):
        convert_detectron2(state, tmp_path / "out.ckpt", source="model.pkl")
    assert not [*tmp_path.iterdir()]


def test_anchors_are_ours_or_absent():
    state = _state(KINDS[0])
    newer = {k: v for k, v in state.items() if not k.startswith(ANCHORS)}
    assert len(_convert(newer, KINDS[0])) == len(_network(KINDS[0]).state_dict())
    state[f"{ANCHORS}1"] = state[f"{ANCHORS}1"] * 2
    with refused("anchors of P3"):
        _convert(state, KINDS[0])


def test_a_mask_r_cnn_or_another_depth_is_no_panoptic_fpn():
    state = _state(KINDS[0])
    without = {k: v for k, v in state.items() if not k.startswith("sem_seg_head.")}
    deeper = state | {
        f"backbone.bottom_up.res4.{k}.conv1.weight": torch.zeros(1) for k in range(6, 36)
    }
    for other in (without, deeper, {}):
        with refused("model.pkl: not a Panoptic-FPN"):
            recognise(other, source="model.pkl")


def test_arrays_and_tensors_are_read_with_or_without_an_outer_dict():
    named = {"a.weight": np.ones((2, 3), np.float32), "b": torch.zeros(1)}
    for content in (named, {"model": named, "__author__": "someone"}):
        state = read_state(content, source="x")
        assert torch.equal(state["a.weight"], torch.ones(2, 3))
        assert state.keys() == named.keys()
    for bad, reason in ((3, "not a state dict"), ({"a": "text"}, "not tensors")):
        with refused("model.pkl: ", reason):
            read_state({"model": bad}, source="model.pkl")


def test_categories_are_coco_s_in_detectron2_s_order():
    table = coco_categories()
    things, stuff = table.categories[:80], table.categories[80:]
    assert (table.num_things, len(table)) == (80, 133)
    assert {c.dataset_id for c in things} < {*range(1, 91)}
    ids = [c.dataset_id for c in table.categories]
    assert ids == sorted(ids)
    assert (ids[80], ids[-1]) == (92, 200)
    # the 54-way head's outputs 1 to 53 are these: names as its stuff_classes, suffixes aside
    names = [re.sub("-other|-merged", "", c.name) for c in stuff]
    assert names[:3] == ["banner", "blanket", "bridge"]
    assert names[-3:] == ["rock", "wall", "rug"]
    assert table[0].name == "person"


@pytest.mark.real
def test_categories_are_those_of_the_dataset(coco_root):
    path = coco_root / "annotations" / "panoptic_val2017.json"
    entries = json.loads(path.read_text())["categories"]
    assert CategoryTable.of(entries) == coco_categories()
