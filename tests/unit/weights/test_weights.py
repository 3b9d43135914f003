import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

from make.batches import fake_batch, fake_sample, tiny_network
from make.errors import refused
from make.weights import randomise
from refine.detector.backbone import build_backbone
from refine.errors import RefineError
from refine.options import BackboneOptions
from refine.weights.formats import read_weights
from refine.weights.load import load_backbone_weights
from refine.weights.stored import (
    CAFFE2,
    CAFFE2_SCALED,
    IMAGENET,
    PixelStats,
    Weights,
    load_weights,
    pixel_buffers,
    read_state,
    save_weights,
)


def _options(norm, **kwargs):
    return BackboneOptions(**{"name": "r18", "norm": norm, "fpn_channels": 32} | kwargs)


def _load(path, norm, **kwargs):
    options = _options(norm, **kwargs)
    backbone = build_backbone(options)
    load_backbone_weights(backbone, str(path), options=options)
    return backbone


@pytest.fixture(scope="module")
def model():
    return randomise(resnet18()).eval()


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "r18.pth"
    torch.save({"model": model.state_dict()}, path)
    return path


@pytest.mark.parametrize("norm", ["frozen_bn", "bn", "sync_bn"])
def test_torchvision_weights_give_torchvision_features(model, path, norm):
    backbone = _load(path, norm).eval()
    x = torch.randn(1, 3, 64, 64)
    stem = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    torch.testing.assert_close(backbone.stem(x), stem)
    ours, theirs = backbone.stages["layer1"](stem), model.layer1(stem)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("modulated", [False, True])
def test_plain_weights_fit_deformable_convolutions(model, path, modulated):
    backbone = _load(path, "frozen_bn", dcn_stages=[3, 4], dcn_modulated=modulated)
    conv = backbone.stages["layer4"][1].conv2
    torch.testing.assert_close(conv.weight.detach(), model.layer4[1].conv2.weight.detach())
    offsets = {k: v for k, v in backbone.state_dict().items() if ".offsets." in k}
    assert len(offsets) == 8
    assert not any(v.any() for v in offsets.values())


def test_weights_of_another_norm_are_refused_by_name(path, tmp_path):
    net = resnet18(norm_layer=lambda channels: nn.GroupNorm(32, channels))
    torch.save(net.state_dict(), tmp_path / "gn.pth")
    for source, norm in ((path, "gn"), (tmp_path / "gn.pth", "frozen_bn")):
        with refused(f"model.backbone.norm={norm}"):
            _load(source, norm)


@pytest.mark.parametrize(
    ("norm", "stride_in_1x1", "options", "fix"),
    [
        *(("affine", False, {"norm": n}, "norm=frozen_bn") for n in ("bn", "sync_bn", "gn")),
        ("bn", True, {"name": "r50"}, "stride_in_1x1=true"),
        ("bn", False, {"name": "r50", "stride_in_1x1": True}, "stride_in_1x1=false"),
    ],
)
def test_what_stored_weights_ask_of_the_backbone(tmp_path, norm, stride_in_1x1, options, fix):
    weights = Weights(tensors={}, pixels=CAFFE2, norm=norm, stride_in_1x1=stride_in_1x1)
    save_weights(weights, tmp_path / "w.safetensors")
    with torch.device("meta"), refused(f"model.backbone.{fix}"):
        _load(tmp_path / "w.safetensors", **({"norm": "frozen_bn"} | options))


def test_missing_unknown_and_misshaped_keys_are_listed_and_nothing_is_loaded(tmp_path, model):
    state = dict(model.state_dict())
    del state["layer1.0.conv1.weight"], state["bn1.running_var"]
    state["layer9.weight"] = torch.zeros(1)
    state["conv1.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pth")
    options = _options("frozen_bn")
    backbone = build_backbone(options)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    missing, unknown = "missing: bn1.running_var, layer1.0.conv1.weight", "unknown: layer9.weight"
    with refused(missing, unknown, "shape: conv1.weight [1] for [64, 3, 7, 7]"):
        load_backbone_weights(backbone, str(tmp_path / "w.pth"), options=options)
    assert load_backbone_weights(backbone, "none", options=_options("gn")) == IMAGENET
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("none", ["model.backbone.norm=gn"]),
        ("torchvision:IMAGENET", ["IMAGENET1K_V1"]),
        ("http://127.0.0.1:1/w.pth", ["the download failed", "weights=none"]),
        *((f"bad.{suffix}", ["no such file"]) for suffix in ("pth", "pkl", "safetensors")),
    ],
)
def test_places_without_weights(tmp_path, monkeypatch, place, words):
    monkeypatch.setenv("REFINE_CACHE", str(tmp_path))
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between attempts
    with refused(*words):
        _load(place, "frozen_bn")
    assert not list(tmp_path.iterdir())
    for content in (b"", b"not weights") if place.startswith("bad") else ():
        (tmp_path / place).write_bytes(content)
        with refused(f"{place}: not a readable"):
            _load(tmp_path / place, "gn")


@pytest.mark.parametrize(
    "content",
    [
        [1], {"epoch": 3}, {"model": 3}, {},
        {"model": {"backbone.bottom_up.stem.conv1.weight": torch.zeros(1)}},  # detectron2's
    ],
)  # fmt: skip
def test_files_without_weights_of_a_backbone_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(RefineError, match=r"w\.pth: (holds|not a state dict|a checkpoint of det)"):
        _load(tmp_path / "w.pth", "gn")


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([object()]), np.array([1j])])
def test_arrays_of_other_things_than_numbers_are_refused(array):
    with refused("w.pkl: not a state dict; not tensors: x"):
        read_state({"x": array, "y": np.zeros(2)}, source="w.pkl")


def test_safetensors_keep_what_travels_along(tmp_path):
    tensors = {"conv1.weight": torch.randn(4, 3, 1, 1), "bn1.weight": torch.randn(4)[::2]}
    path = tmp_path / "folder" / "w.safetensors"
    for stats in (PixelStats((1.5, 2.5, 3.5), (4.0, 5.0, 6.0)), CAFFE2):
        weights = Weights(tensors=tensors, pixels=stats, norm="affine", stride_in_1x1=True)
        save_weights(weights, path)
        result = load_weights(path)
        assert (result.pixels, result.norm, result.stride_in_1x1) == (stats, "affine", True)
        assert all(torch.equal(result.tensors[k], v) for k, v in tensors.items())
    assert [p.name for p in path.parent.iterdir()] == ["w.safetensors"]
    rgb = read_weights(path)  # of BGR, once
    assert torch.equal(rgb.tensors["conv1.weight"], tensors["conv1.weight"].flip(1))
    assert rgb.to_rgb() is rgb
    assert CAFFE2_SCALED.to_rgb() == IMAGENET


@pytest.mark.parametrize(
    "metadata",
    [
        {"norm": "layer"},
        {"pixel_mean": "[1, 2]", "pixel_std": "[1, 1, 1]"},
        {"pixel_mean": "[1, 2, 3]"},
        {"pixel_mean": "[1, 2, 3]", "pixel_std": "[1, 1, 0]"},
        {"pixel_mean": "[1, 2, 3]", "pixel_std": "[1, 1, 1]", "channel_order": "gbr"},
        {"pixel_mean": "1"},
        {"stride_in_1x1": "maybe"},
    ],
)
def test_bad_metadata_is_one_line(tmp_path, metadata):
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "w.safetensors", metadata)
    with refused("w.safetensors: bad metadata"):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("stats", [CAFFE2, CAFFE2.to_rgb()])
def test_the_network_normalises_with_the_statistics_it_is_given(stats):
    network = tiny_network()
    assert network.pixel_mean.flatten().tolist() == pytest.approx(IMAGENET.mean)
    assert network.pixel_std.flatten().tolist() == pytest.approx(IMAGENET.std)
    network.load_state_dict(pixel_buffers(stats), strict=False)
    batch = fake_batch([fake_sample(np.random.default_rng(0))])
    expected = batch.images.float() - torch.tensor(IMAGENET.mean).view(3, 1, 1)
    height, width = batch.image_sizes[0]
    torch.testing.assert_close(
        network.normalize(batch)[..., :height, :width], expected[..., :height, :width]
    )
