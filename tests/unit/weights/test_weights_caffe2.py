import logging

import numpy as np
import pytest
import torch

from make.errors import refused
from make.weights import features, python2_pickle, tiny_bottlenecks, to_caffe2, write_pickle
from refine.weights.formats import read_weights
from refine.weights.stored import CAFFE2, CAFFE2_SCALED

KINDS = ["affine", "gn", "bn"]
BLOBS = to_caffe2(tiny_bottlenecks("gn").state_dict(), "gn")


def _convert(tmp_path, net, kind):
    return read_weights(
        write_pickle(tmp_path / "w.pkl", {"blobs": to_caffe2(net.state_dict(), kind)})
    )


@pytest.mark.parametrize(
    ("kind", "groups", "pixels", "stride_in_1x1"),
    [
        ("affine", 1, CAFFE2, True),  # Detectron's copy of MSRA's
        ("bn", 1, CAFFE2, True),  # detectron2's copy of MSRA's
        ("gn", 1, CAFFE2, False),
        ("gn", 8, CAFFE2, False),
        ("affine", 8, CAFFE2, False),  # X-101-64x4d
        ("bn", 8, CAFFE2_SCALED, False),  # detectron2's X-101-32x8d
    ],
)
def test_names_and_conventions_of_the_published_files(
    tmp_path, kind, groups, pixels, stride_in_1x1
):
    net = tiny_bottlenecks(kind, groups=groups)
    weights = _convert(tmp_path, net, kind)
    assert (weights.norm, weights.pixels) == (kind, pixels.to_rgb())
    assert weights.pixels.mean == (123.675, 116.28, 103.53)
    assert weights.stride_in_1x1 is stride_in_1x1
    expected = {
        key: value.flip(1) if key == "conv1.weight" else value
        for key, value in net.state_dict().items()
        if not (key.startswith("fc.") or key.endswith("num_batches_tracked"))
        and not (kind == "affine" and "running" in key)
    }
    named = {k for k in weights.tensors if not (kind == "affine" and "running" in k)}
    assert named == set(expected)
    for key, value in expected.items():
        assert torch.equal(weights.tensors[key], value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_sees_in_rgb_what_the_publisher_saw_in_bgr(tmp_path, kind):
    """Theirs subtracts the mean from BGR pixels; an affine layer is weight * x + bias."""
    theirs = tiny_bottlenecks(kind, stride_in_1x1=kind != "gn")
    if kind == "affine":
        for module in theirs.modules():
            if hasattr(module, "running_var"):
                module.running_mean.zero_()
                module.running_var.fill_(1 - module.eps)
    weights = _convert(tmp_path, theirs, kind)
    ours = tiny_bottlenecks(kind, stride_in_1x1=weights.stride_in_1x1)
    for value in ours.state_dict().values():
        value.zero_()
    missing, unexpected = ours.load_state_dict(weights.tensors, strict=False)
    assert not unexpected
    assert not [k for k in missing if not (k.startswith("fc.") or k.endswith("_tracked"))]
    rgb = torch.randint(0, 256, (2, 3, 64, 64)).float()
    mean, std = torch.tensor(CAFFE2.mean), torch.tensor(CAFFE2.std)
    bgr = (rgb.flip(1) - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    mean, std = torch.tensor(weights.pixels.mean), torch.tensor(weights.pixels.std)
    with torch.no_grad():
        expected = features(theirs, bgr)
        result = features(ours, (rgb - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    if kind == "affine":  # exactly
        x, (weight, bias) = torch.randn(1, 64, 5, 5), (theirs.bn1.weight, theirs.bn1.bias)
        expected = x * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)
        torch.testing.assert_close(ours.bn1(x), expected, rtol=1e-7, atol=1e-7)


def test_a_whole_file_of_python_2(tmp_path):
    (tmp_path / "w.pkl").write_bytes(python2_pickle(BLOBS))
    expected = read_weights(write_pickle(tmp_path / "now.pkl", BLOBS)).tensors
    torch.testing.assert_close(read_weights(tmp_path / "w.pkl").tensors, expected)


def test_what_a_backbone_does_not_need_is_dropped_biases_with_a_word(tmp_path, caplog):
    extra = {
        "fc1000_w": np.zeros((2, 4), np.float32), "fc1000_b": np.zeros(2, np.float32),
        "conv1_w_momentum": np.zeros(3, np.float32), "lr": np.float32(0.1), "weight_order": ["a"],
        "model_iter": 7,
    }  # fmt: skip
    with caplog.at_level(logging.INFO):
        plain = read_weights(write_pickle(tmp_path / "a.pkl", BLOBS))
        more = read_weights(write_pickle(tmp_path / "b.pkl", BLOBS | extra))
        assert not caplog.records
        biases = dict.fromkeys(("conv1_b", "res2_0_branch1_b"), np.full(4, 1e-9, np.float32))
        biased = read_weights(write_pickle(tmp_path / "c.pkl", BLOBS | biases))
    assert set(plain.tensors) == set(more.tensors) == set(biased.tensors)
    assert "2 biases of convolutions (largest 1.0e-09)" in caplog.text


def test_unknown_and_double_blobs_are_listed(tmp_path):
    blobs = to_caffe2(tiny_bottlenecks("bn").state_dict(), "bn")
    blobs["fpn_inner_res5_2_sum_w"] = blobs["rpn_cls_logits_w"] = np.zeros(1, np.float32)
    blobs["res_conv1_bn_s"] = blobs["res_conv1_bn_gamma"]
    strangers = ("fpn_inner_res5_2_sum_w", "rpn_cls_logits_w", "bn_s", "bn_gamma")
    with refused(*strangers) as caught:
        read_weights(write_pickle(tmp_path / "w.pkl", blobs))
    assert "conv1_w" not in str(caught.value)


@pytest.mark.parametrize("value", ["text", np.array([None]), 3.0, np.array(["a"])])
def test_a_blob_that_is_no_array_of_numbers_is_named(tmp_path, value):
    with refused("conv1_w is not an array of numbers"):
        read_weights(write_pickle(tmp_path / "w.pkl", BLOBS | {"conv1_w": value}))


def test_every_precision_becomes_single_and_shapes_are_left_to_the_backbone_to_refuse(tmp_path):
    odd = dict.fromkeys(("conv1_w", "res3_0_branch2b_w"), np.zeros((), np.float32))
    odd |= {"conv1_gn_s": np.ones(64), "conv1_gn_b": np.ones(64, ">f2")}
    tensors = read_weights(write_pickle(tmp_path / "w.pkl", BLOBS | odd)).tensors
    assert {v.dtype for v in tensors.values()} == {torch.float32}
    assert tensors["conv1.weight"].shape == ()
