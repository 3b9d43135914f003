"""``refine.export``: bundles that load, programs that compute what the network computes."""

import json
import os
import sys
from dataclasses import asdict
from functools import cache

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.export import Dim

import refine
from make.batches import NUM_CATEGORIES, NUM_THINGS, tiny_options
from make.errors import refused
from refine.categories import CategoryTable
from refine.config import compose
from refine.config.settings import Sections
from refine.detector.dense import DENSE_OUTPUTS
from refine.options import DataOptions, FusionOptions
from refine.runs.checkpoint import make_record
from refine.runs.restore import build_pipeline
from refine.types import Batch, Sample
from refine.workflows.export_network import export

TABLE = CategoryTable.of(
    [
        {"id": k + 1, "name": f"category {k}", "isthing": int(k < NUM_THINGS)}
        for k in range(NUM_CATEGORIES)
    ]
)


@pytest.fixture(scope="module")
def save(tmp_path_factory):
    """Writes a checkpoint of a tiny network with random weights: ``save(**tiny_options)``."""

    @cache
    def _save(*, dcn_stages=(), **options):
        torch.manual_seed(0)
        sections = Sections(
            data=DataOptions(), model=tiny_options(**options), fusion=FusionOptions()
        )
        sections.data.anchors.sizes_px = [8, 16, 32, 64, 128]
        sections.data.image.eval_short_side_px = 64
        sections.fusion.merge.score_thresh = 0.2
        sections.data.stuff_area_limit_px = 1
        sections.model.backbone.dcn_stages = [*dcn_stages]
        pipeline = build_pipeline(sections, categories=TABLE)
        path = tmp_path_factory.mktemp("run") / "best.ckpt"
        weights = {f"pipeline.{key}": value for key, value in pipeline.state_dict().items()}
        torch.save({"refine": make_record(asdict(sections), TABLE), "state_dict": weights}, path)
        return path

    return _save


def start(checkpoint, out, *more):
    return export(compose("export", [f"ckpt_path={checkpoint}", f"out={out}", *more]))


def dense_outputs(checkpoint, images):
    """The same tensors out of the network's own parts."""
    network = refine.load(checkpoint, device="cpu").pipeline.network
    size = (images.shape[2], images.shape[3])
    samples = tuple(Sample(image=i, image_id=0, file_name="", original_size=size) for i in images)
    batch = Batch(images=images, image_sizes=(size,) * len(images), samples=samples)
    with torch.no_grad():
        levels = network.backbone(network.normalize(batch))
        feature = network.semantic_trunk(levels[:4])
        return [*levels, feature, network.ibpp.predict_semantics(feature)]


def test_a_bundle_is_the_checkpoint_without_pickles(save, tmp_path):
    checkpoint = save(iterations=1)
    out = start(checkpoint, tmp_path / "model.safetensors")
    with safe_open(out, "pt") as file:
        record = json.loads(file.metadata()["refine"])
        assert len(file.keys()) == len(torch.load(checkpoint)["state_dict"])
    assert record["config"]["data"]["image"]["eval_short_side_px"] == 64
    assert [c["name"] for c in record["categories"]] == [c.name for c in TABLE.categories]
    pixels = np.random.default_rng(0).integers(0, 256, (48, 60, 3), np.uint8)
    first, second = (refine.load(path, device="cpu").predict(pixels) for path in (checkpoint, out))
    assert len(first.segments) > 1
    assert first.segments == second.segments
    assert np.array_equal(first.segment_map, second.segment_map)
    start(out, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(out.read_bytes()[:-100])
    with refused("cut.safetensors: not a readable checkpoint"):
        refine.load(tmp_path / "cut.safetensors")


_SLOW = pytest.mark.slow
_DCN = {"name": "r50", "norm": "frozen_bn", "dcn_stages": (4,)}


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("pt2", {"iterations": 1}),
        pytest.param("pt2", _DCN, marks=_SLOW),
        pytest.param("onnx", {"iterations": 1}, marks=_SLOW),
        pytest.param("onnx", _DCN, marks=_SLOW),
    ],
    ids=["torch", "torch, deformable", "onnx", "onnx, deformable"],
)
def test_the_dense_part_is_that_of_the_network_at_any_size(save, tmp_path, form, options):
    checkpoint = save(**options)
    out = start(checkpoint, tmp_path / f"dense.{form}")
    if form == "pt2":
        extra = {"refine.json": ""}
        run = torch.export.load(out, extra_files=extra).module()
        record = json.loads(extra["refine.json"])
    else:
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(out)
        assert [o.name for o in session.get_outputs()] == [*DENSE_OUTPUTS]
        run = lambda images: session.run(None, {"images": images.numpy()})  # noqa: E731
        record = json.loads(session.get_modelmeta().custom_metadata_map["refine"])
    assert [c["id"] for c in record["categories"]] == [c.dataset_id for c in TABLE.categories]
    for size in ((1, 3, 96, 96), (2, 3, 128, 160), (4, 3, 224, 96)):
        images = torch.randint(0, 256, size).float()
        for found, expected in zip(run(images), dense_outputs(checkpoint, images), strict=True):
            scale = max(1.0, float(expected.abs().max()))
            assert np.abs(np.asarray(found) - expected.numpy()).max() <= 1e-3 * scale


def test_what_cannot_be_exported_says_so(save, tmp_path, monkeypatch):
    checkpoint = save()
    for name, more in (("x.zip", []), ("x.pt2", ["format=onnx"])):
        with refused(f"{name}: the ending must be that of the format"):
            start(checkpoint, tmp_path / name, *more)

    def fail(*_, **__):
        raise torch.onnx.errors.OnnxExporterError("no such operator\nsecond line")

    monkeypatch.setattr(torch.onnx, "export", fail)
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    with refused("the dense part has no ONNX form (no such operator); format=torch has one"):
        start(checkpoint, tmp_path / "dense.onnx")
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with refused("onnxruntime is not installed; pip install"):
        start(checkpoint, tmp_path / "dense.onnx")
    assert not list(tmp_path.iterdir())


def test_a_program_that_computes_something_else_is_not_kept(save, tmp_path, monkeypatch):
    load = torch.export.load

    class Wrong:
        def __init__(self, program):
            self.run = program.module()

        def module(self):
            return lambda images: [2 * values for values in self.run(images)]

    monkeypatch.setattr(torch.export, "load", lambda path: Wrong(load(path)))
    out = tmp_path / "dense.pt2"
    out.write_text("the program of before")
    with refused("dense.pt2: p2 differs by"):
        start(save(), out)
    assert out.read_text() == "the program of before"
    assert list(tmp_path.iterdir()) == [out]


@_SLOW
def test_the_whole_network_does_not_export_as_the_table_says(save):
    """When this fails, docs/export.md has to change, and refine.export may do more."""
    network = refine.load(save(), device="cpu").pipeline.network

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, images):
            size = (images.shape[2], images.shape[3])
            sample = Sample(image=images[0], image_id=0, file_name="", original_size=size)
            (raw,) = self.network.predict(
                Batch(images=images, image_sizes=(size,), samples=(sample,))
            )
            return raw.boxes, raw.scores, raw.labels, raw.mask_logits, raw.semantic_logits

    images = torch.randint(0, 256, (1, 3, 128, 160), dtype=torch.uint8)
    sides = {axis: 32 * Dim(f"side{axis}", min=3, max=512) for axis in (2, 3)}
    with torch.no_grad(), pytest.raises(Exception, match="data-dependent"):
        torch.export.export(Whole().eval(), (images,), dynamic_shapes=(sides,))
