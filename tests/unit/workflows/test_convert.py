import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from make.errors import refused
from make.weights import randomise, tiny_bottlenecks, to_caffe2, write_pickle
from refine.config import compose
from refine.detector.backbone import build_backbone
from refine.options import BackboneOptions
from refine.weights.formats import read_weights
from refine.weights.load import load_backbone_weights
from refine.weights.stored import CAFFE2, IMAGENET, PixelStats
from refine.workflows.convert_weights import convert


def _write(folder, file_format, state):
    if file_format == "c2":
        kind = "bn" if "bn1.running_mean" in state else "gn"
        return write_pickle(folder / "w.pkl", {"blobs": to_caffe2(state, kind)})
    torch.save({"state_dict": state} if file_format == "timm" else state, folder / "w.pth")
    return folder / "w.pth"


def _convert(source, out, *more):
    return convert(compose("convert", [f"source={source}", f"out={out}", *more]))


@pytest.mark.parametrize(
    ("file_format", "kind", "more"),
    [("torchvision", "bn", []), ("timm", "gn", ["format=timm"]), ("c2", "bn", [])],
)
def test_every_format_becomes_safetensors_that_load_as_the_source(
    tmp_path, file_format, kind, more
):
    layer = (lambda channels: nn.GroupNorm(32, channels)) if kind == "gn" else None
    state = randomise(resnet18(norm_layer=layer)).state_dict()
    source = _write(tmp_path, file_format, state)
    out = _convert(source, tmp_path / "out.safetensors", *more)
    norm = "gn" if kind == "gn" else "frozen_bn"
    options = BackboneOptions(name="r18", norm=norm, fpn_channels=32)
    stats = (CAFFE2 if file_format == "c2" else IMAGENET).to_rgb()
    for path in (source, out):
        backbone = build_backbone(options)
        assert load_backbone_weights(backbone, str(path), options=options) == stats
        loaded = backbone.state_dict()
        assert torch.equal(loaded["stages.layer2.0.conv1.weight"], state["layer2.0.conv1.weight"])
        assert torch.equal(loaded["stem.bn1.bias"], state["bn1.bias"])
        first = state["conv1.weight"].flip(1) if file_format == "c2" else state["conv1.weight"]
        assert torch.equal(loaded["stem.conv1.weight"], first)


def test_what_is_converted_twice_stays_the_same_and_is_not_overwritten(tmp_path):
    source = _write(tmp_path, "c2", tiny_bottlenecks("gn").state_dict())
    path = _convert(source, tmp_path / "a.safetensors")
    first, second = read_weights(path), read_weights(_convert(path, tmp_path / "b.safetensors"))
    assert first.pixels == second.pixels
    assert all(torch.equal(v, second.tensors[k]) for k, v in first.tensors.items())
    before = path.read_bytes()
    with refused("the source itself"):
        _convert(path, path)
    assert path.read_bytes() == before


def _part(net, *, sequential):
    """A ResNet as a part of a larger network: by its names, or as a sequence of its children."""
    return nn.Sequential(*list(net.children())[:-2]) if sequential else net


@pytest.mark.parametrize("sequential", [False, True])
def test_a_resnet_within_a_larger_network_is_found(tmp_path, sequential):
    net = randomise(resnet18())
    whole = nn.ModuleDict(
        {"features": _part(net, sequential=sequential), "conv1": nn.Conv2d(3, 4, 1)}
    )
    torch.save(nn.DataParallel(whole).state_dict(), tmp_path / "w.pth")
    pixels = ["pixel_mean=[0,0,0]", "pixel_std=[255,255,255]"]
    out = _convert(tmp_path / "w.pth", tmp_path / "o.safetensors", *pixels)
    weights = read_weights(out)
    expected = {k: v for k, v in net.state_dict().items() if not k.startswith("fc.")}
    assert weights.tensors.keys() == expected.keys()
    assert all(torch.equal(v, expected[k]) for k, v in weights.tensors.items())
    assert weights.pixels == PixelStats((0, 0, 0), (255, 255, 255))
    assert read_weights(tmp_path / "w.pth").pixels == IMAGENET


def test_one_of_two_resnets_is_chosen_by_its_prefix(tmp_path):
    torch.manual_seed(0)
    nets = nn.ModuleDict({name: _part(resnet18(), sequential=False) for name in ("old", "new")})
    torch.save(nets.state_dict(), tmp_path / "w.pth")
    for given in ([], ["prefix=young."]):
        with refused("name the ResNet with prefix=, one of 'new.', 'old.'"):
            _convert(tmp_path / "w.pth", tmp_path / "o.safetensors", *given)
    out = _convert(tmp_path / "w.pth", tmp_path / "o.safetensors", "prefix=new.")
    assert torch.equal(read_weights(out).tensors["conv1.weight"], nets["new"].conv1.weight)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["source={w}", "out=o.safetensors", "pixel_std=[1,2]"], "give [R, G, B]"),
        (["source={w}", "out=o.safetensors", "pixel_std=[0,1,1]"], "std above 0"),
        (["source={w}", "out=o.safetensors", "prefix=a."], "one of none"),
        (["source=absent.pth", "out=o.safetensors"], "absent.pth: no such file"),
        (["source=c2:R-7", "out=o.safetensors"], "R-50-GN"),
        (["source=absent.pth", "out=o.pth"], "end the name in .safetensors"),
        (["source={w}", "out=o.safetensors", "format=onnx"], "format=onnx"),
        (["source={w}", "out=o.safetensors", "format=c2"], "unknown"),
        (["source={w}", "out={folder}/file/o.safetensors"], "cannot be written"),
        (["source={w}@sha256:00000000", "out=o.safetensors"], "its sha256 is"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, overrides, message):
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "w.pth")
    (tmp_path / "file").write_text("")
    given = [o.format(w=tmp_path / "w.pth", folder=tmp_path) for o in overrides]
    with refused(message):
        convert(compose("convert", given))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "w.pth"]


def test_sources_need_no_quotes_on_the_command_line():
    source = "https://host.org/a-b/R-50%20GN.pkl@sha256:0123abcd"
    assert compose("convert", [f"source={source}", "out=o.safetensors"]).source == source
