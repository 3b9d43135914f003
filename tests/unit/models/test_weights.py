from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import ResNet18_Weights, resnet18

from refine.errors import RefineError
from refine.models.backbone import build_backbone
from refine.models.weights import load_backbone_weights
from refine.options import BackboneOptions


def _options(norm):
    return BackboneOptions(name="r18", norm=norm, fpn_channels=32)


def _load(path, norm):
    options = _options(norm)
    backbone = build_backbone(options)
    load_backbone_weights(backbone, str(path), options=options)
    return backbone


def _group_norm_resnet():
    return resnet18(norm_layer=lambda channels: nn.GroupNorm(32, channels))


@pytest.mark.parametrize("norm", ["frozen_bn", "sync_bn"])
def test_torchvision_weights_give_torchvision_features(tmp_path, norm):
    model = resnet18().eval()
    path = tmp_path / "r18.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    backbone = _load(path, norm).eval()
    x = torch.randn(1, 3, 64, 64)
    stem = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    torch.testing.assert_close(backbone.stem(x), stem)
    ours, theirs = backbone.stages["layer1"](stem), model.layer1(stem)
    torch.testing.assert_close(ours, theirs)


def test_group_norm_weights_from_a_pth(tmp_path):
    model = _group_norm_resnet()
    torch.save(model.state_dict(), tmp_path / "gn.pth")
    backbone = _load(tmp_path / "gn.pth", "gn")
    torch.testing.assert_close(backbone.stages["layer4"][1].bn2.weight, model.layer4[1].bn2.weight)


@pytest.mark.parametrize(("model", "norm"), [(resnet18, "gn"), (_group_norm_resnet, "frozen_bn")])
def test_weights_of_another_norm_are_refused_by_name(tmp_path, model, norm):
    torch.save(model().state_dict(), tmp_path / "w.pth")
    with pytest.raises(RefineError, match=f"model.backbone.norm={norm}"):
        _load(tmp_path / "w.pth", norm)


def test_missing_unknown_and_misshaped_keys_are_listed(tmp_path):
    state = resnet18().state_dict()
    del state["layer1.0.conv1.weight"]
    state["layer9.weight"] = torch.zeros(1)
    state["conv1.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(RefineError) as caught:
        _load(tmp_path / "w.pth", "frozen_bn")
    message = str(caught.value)
    for part in ("missing: layer1.0.conv1.weight", "unknown: layer9.weight", "shape: conv1.weight"):
        assert part in message


def test_none_leaves_the_backbone_alone():
    options = _options("gn")
    backbone = build_backbone(options)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    load_backbone_weights(backbone, "none", options=options)
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())


def test_missing_file_and_garbage(tmp_path):
    with pytest.raises(RefineError, match="no such file"):
        _load(tmp_path / "absent.pth", "gn")
    (tmp_path / "bad.pth").write_bytes(b"not weights")
    with pytest.raises(RefineError, match="not a readable state dict"):
        _load(tmp_path / "bad.pth", "gn")


def test_unknown_torchvision_name_lists_the_known_ones():
    with pytest.raises(RefineError, match="IMAGENET1K_V1"):
        _load("torchvision:IMAGENET", "frozen_bn")


def test_no_network_is_one_line_that_names_the_way_out(monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", refuse)
    with pytest.raises(RefineError, match="weights=none") as caught:
        _load("torchvision:IMAGENET1K_V1", "frozen_bn")
    assert "\n" not in str(caught.value)


def test_random_weights_under_frozen_statistics_are_refused():
    with pytest.raises(RefineError, match=r"model\.backbone\.norm=gn"):
        _load("none", "frozen_bn")
