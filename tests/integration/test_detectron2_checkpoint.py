"""From a checkpoint of detectron2 to panoptic maps, against detectron2's network written out."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from make.commands import convert, predict
from make.errors import refused
from oracles import detectron2 as d2
from oracles.detectron2_names import random_state
from refine.config import compose
from refine.data.collate import collate
from refine.runs.checkpoint import read_checkpoint
from refine.runs.restore import restore_pipeline
from refine.types import Sample

SIZE, ORIGINAL = (90, 121), (131, 170)
LIMITS = ["model.proposals.pre_nms_eval=100", "model.proposals.post_nms_eval=60"]  # plain Python


@pytest.fixture(scope="module", params=[("r50", False), ("r101", True)], ids=["r50", "cascade"])
def checkpoint(request, tmp_path_factory):
    """Random arrays in the form of detectron2's model zoo, and our checkpoint of them."""
    backbone, cascade = request.param
    arrays, folder = random_state(backbone, cascade=cascade), tmp_path_factory.mktemp("d2")
    content = {"model": arrays, "__author__": "nobody", "matching_heuristics": True}
    (folder / "model_final.pkl").write_bytes(pickle.dumps(content))
    out = convert(folder / "d2.ckpt", f"source={folder}/model_final.pkl", "config=model_zoo")
    return out, {name: torch.from_numpy(array) for name, array in arrays.items()}, cascade


def _image():
    """Smooth noise; ``[3, H, W]`` uint8."""
    torch.manual_seed(0)
    seeds = torch.rand(1, 3, 9, 12) * 255
    return F.interpolate(seeds, size=SIZE, mode="bicubic")[0].clamp(0, 255).byte()


@torch.no_grad()
def _proposals(state, levels):
    name, parts = "proposal_generator.rpn_head", ([], [], [])
    for k, x in enumerate(levels):
        hidden = d2.conv(state, f"{name}.conv", x, relu=True)
        logits = d2.conv(state, f"{name}.objectness_logits", hidden)
        codes = d2.conv(state, f"{name}.anchor_deltas", hidden)
        parts[0].append(logits.permute(0, 2, 3, 1).flatten())
        parts[1].append(codes.unflatten(1, (3, 4)).permute(0, 3, 4, 1, 2).reshape(-1, 4))
        parts[2].append(d2.anchors(*x.shape[2:], stride=4 * 2**k, size=32 * 2**k))
    return d2.find_proposals(*parts, SIZE, pre_nms=100, post_nms=60)


@pytest.mark.slow
def test_converted_network_is_detectron2_s(checkpoint):
    path, state, cascade = checkpoint
    ours = read_checkpoint(path)
    options = compose("evaluate", LIMITS).choose_sections(ours.config)
    pipeline = restore_pipeline(ours, options)
    sample = Sample(image=_image(), image_id=1, file_name="a.jpg", original_size=ORIGINAL)
    ((evidence, panoptic),) = pipeline.predict(collate([sample]))
    with torch.no_grad():
        levels = d2.pyramid(state, d2.preprocess(_image()), stride_in_1x1=not cascade)
        logits = d2.semantic_logits(state, levels)[0]
        boxes, scores, labels = d2.run_cascade(state, levels, _proposals(state, levels), SIZE)
        masks = d2.mask_probabilities(state, levels, boxes, labels)
    raw = evidence.raw
    visible = raw.semantic_logits[[0, *range(80, 133)]]
    torch.testing.assert_close(visible, logits, rtol=1e-5, atol=1e-4)
    assert not raw.semantic_logits.softmax(0)[1:80].any()  # of things, which are one output
    torch.testing.assert_close(raw.boxes, boxes, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(raw.scores, scores, rtol=1e-5, atol=1e-5)
    assert raw.labels.tolist() == labels.tolist()
    torch.testing.assert_close(raw.mask_logits.sigmoid(), masks, rtol=1e-5, atol=1e-5)
    segment_map, segments = d2.panoptic(boxes, scores, labels, masks, logits, SIZE, ORIGINAL)
    assert sum(is_thing for _, is_thing, _ in segments) > 5  # or it would say little
    assert (panoptic.segment_map != segment_map).mean() < 1e-3
    assert [(s.id, s.is_thing, s.category) for s in panoptic.segments] == [
        (number, is_thing, category if is_thing else category + 79)
        for number, is_thing, category in segments
    ]


@pytest.mark.slow
def test_converted_checkpoint_predicts_a_file(checkpoint, tmp_path):
    path, _, _ = checkpoint
    Image.fromarray(_image().permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    small = "data.image.eval_short_side_px=96"
    out = predict(tmp_path / "out", f"ckpt_path={path}", f"source={tmp_path / 'a.png'}", small)
    written = sorted(p.relative_to(out).as_posix() for p in Path(out).rglob("*.*"))
    assert written == ["overlays/a.png", "panoptic.json", "panoptic/a.png"]
    assert np.asarray(Image.open(out / "panoptic" / "a.png")).shape == (*SIZE, 3)


def test_names_of_the_result(tmp_path):
    arrays = {"backbone.bottom_up.res4.0.conv1.weight": np.zeros(1)}
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"model": arrays}))
    source = f"source={tmp_path}/m.pkl"
    for out, more, message in (
        ("o", [], "end the name in .safetensors for a backbone's weights, or in .ckpt"),
        ("o.safetensors", [], "ends in .ckpt"),
        ("o.safetensors", ["format=detectron2"], "end the name in .ckpt"),
        ("o.ckpt", ["format=c2"], "end out= in .safetensors"),
        ("o.ckpt", [], "not a Panoptic-FPN"),
    ):
        with refused(message):
            convert(tmp_path / out, source, *more)
    assert [p.name for p in tmp_path.iterdir()] == ["m.pkl"]
