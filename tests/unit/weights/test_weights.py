from urllib.error import URLError

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

from make.batches import fake_batch, fake_sample, tiny_network
from make.predictions import refused
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
    apply_pixel_stats,
    load_weights,
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
    path = tmp_path_factory.mktemp("weights") / "r18.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    return path


@pytest.mark.parametrize("norm", ["frozen_bn", "bn", "sync_bn"])
def test_torchvision_weights_give_torchvision_features(model, path, norm):
    backbone = _load(path, norm).eval()
    x = torch.randn(1, 3, 64, 64)
    stem = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    torch.testing.assert_close(backbone.stem(x), stem)
    ours, theirs = backbone.stages["layer1"](stem), model.layer1(stem)
    torch.testing.assert_close(ours, theirs)


@pytest.fixture(scope="module")
def group_norm_path(tmp_path_factory):
    net = randomise(resnet18(norm_layer=lambda channels: nn.GroupNorm(32, channels)))
    path = tmp_path_factory.mktemp("weights") / "gn.pth"
    torch.save({"model": net.state_dict()}, path)
    return path


def test_group_norm_weights_from_a_pth(group_norm_path):
    bias = _load(group_norm_path, "gn").state_dict()["stages.layer4.1.bn2.bias"]
    assert torch.equal(bias, torch.load(group_norm_path)["model"]["layer4.1.bn2.bias"])


@pytest.mark.parametrize("modulated", [False, True])
def test_plain_weights_fit_deformable_convolutions(model, path, modulated):
    backbone = _load(path, "frozen_bn", dcn_stages=[3, 4], dcn_modulated=modulated)
    conv = backbone.stages["layer4"][1].conv2
    torch.testing.assert_close(conv.weight.detach(), model.layer4[1].conv2.weight.detach())
    offsets = {k: v for k, v in backbone.state_dict().items() if ".offsets." in k}
    assert len(offsets) == 8
    assert not any(v.any() for v in offsets.values())


def test_weights_of_another_norm_are_refused_by_name(path, group_norm_path):
    for source, norm in ((path, "gn"), (group_norm_path, "frozen_bn")):
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
    with torch.device("meta"), pytest.raises(RefineError, match=rf"model\.backbone\.{fix}"):
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
    with refused(
        "missing: bn1.running_var, layer1.0.conv1.weight", "unknown: layer9.weight",
        "shape: conv1.weight [1] for [64, 3, 7, 7]",
    ):  # fmt: skip
        load_backbone_weights(backbone, str(tmp_path / "w.pth"), options=options)
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())


def test_no_weights():
    options = _options("gn")
    backbone = build_backbone(options)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    assert load_backbone_weights(backbone, "none", options=options) == IMAGENET
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())
    with pytest.raises(RefineError, match=r"model\.backbone\.norm=gn"):
        _load("none", "frozen_bn")


@pytest.mark.parametrize("name", ["bad.pth", "bad.pkl", "bad.safetensors"])
def test_missing_files_and_garbage(tmp_path, name):
    with pytest.raises(RefineError, match="no such file"):
        _load(tmp_path / name, "gn")
    for content in (b"", b"not weights"):
        (tmp_path / name).write_bytes(content)
        with refused(f"{name}: not a readable"):
            _load(tmp_path / name, "gn")


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


def test_unknown_torchvision_name_lists_the_known_ones():
    with pytest.raises(RefineError, match="IMAGENET1K_V1"):
        _load("torchvision:IMAGENET", "frozen_bn")


def test_no_network_is_one_line_that_names_the_way_out(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setenv("REFINE_CACHE", str(tmp_path))
    monkeypatch.setattr("refine.weights.sources.urlopen", refuse)
    with refused("no route to host", "weights=none"):
        _load("torchvision:IMAGENET1K_V1", "frozen_bn")
    assert not list(tmp_path.iterdir())


def test_safetensors_keep_what_travels_along(tmp_path):
    stats = PixelStats((1.5, 2.5, 3.5), (4.0, 5.0, 6.0))
    tensors = {"conv1.weight": torch.randn(4, 3, 1, 1), "bn1.weight": torch.randn(4)[::2]}
    weights = Weights(tensors=tensors, pixels=stats, norm="affine", stride_in_1x1=True)
    save_weights(weights, tmp_path / "folder" / "w.safetensors")
    result = read_weights(tmp_path / "folder" / "w.safetensors")
    assert (result.pixels, result.norm, result.stride_in_1x1) == (stats, "affine", True)
    assert all(torch.equal(result.tensors[k], v) for k, v in tensors.items())
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["w.safetensors"]


def test_bgr_weights_become_rgb_once(tmp_path):
    conv = torch.randn(4, 3, 1, 1)
    weights = Weights(tensors={"conv1.weight": conv}, pixels=CAFFE2, norm="gn")
    save_weights(weights, tmp_path / "w.safetensors")
    stored = load_weights(tmp_path / "w.safetensors")
    assert stored.pixels.channel_order == "bgr"
    rgb = read_weights(tmp_path / "w.safetensors")
    assert torch.equal(rgb.tensors["conv1.weight"], conv.flip(1))
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
    torch.testing.assert_close(network.pixel_mean.flatten(), torch.tensor(IMAGENET.mean))
    torch.testing.assert_close(network.pixel_std.flatten(), torch.tensor(IMAGENET.std))
    apply_pixel_stats(network, stats)
    batch = fake_batch([fake_sample(np.random.default_rng(0))])
    expected = batch.images.float() - torch.tensor(IMAGENET.mean).view(3, 1, 1)
    height, width = batch.image_sizes[0]
    torch.testing.assert_close(
        network.normalize(batch)[..., :height, :width], expected[..., :height, :width]
    )
