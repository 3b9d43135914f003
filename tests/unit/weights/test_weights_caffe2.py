import logging
import pickle

import numpy as np
import pytest
import torch

from make.weights import features, python2_pickle, tiny_bottlenecks, to_caffe2
from refine.errors import RefineError
from refine.weights.formats import read_weights
from refine.weights.stored import CAFFE2, CAFFE2_SCALED

KINDS = ["affine", "gn", "bn"]


def _write(path, blobs):
    path.write_bytes(pickle.dumps(blobs, 4))
    return path


def _convert(tmp_path, net, kind):
    return read_weights(_write(tmp_path / "w.pkl", {"blobs": to_caffe2(net.state_dict(), kind)}))


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
    assert {key.split(".")[-1] for key in missing} <= {"num_batches_tracked", "weight", "bias"}
    assert not [k for k in missing if not (k.startswith("fc.") or k.endswith("_tracked"))]
    rgb = torch.randint(0, 256, (2, 3, 64, 64)).float()
    mean, std = torch.tensor(CAFFE2.mean), torch.tensor(CAFFE2.std)
    bgr = (rgb.flip(1) - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    mean, std = torch.tensor(weights.pixels.mean), torch.tensor(weights.pixels.std)
    with torch.no_grad():
        expected = features(theirs, bgr)
        result = features(ours, (rgb - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_a_folded_norm_is_exactly_its_affine_map(tmp_path):
    net = tiny_bottlenecks("affine")
    weights = _convert(tmp_path, net, "affine")
    net.load_state_dict(weights.tensors, strict=False)
    x = torch.randn(1, 64, 5, 5)
    expected = x * net.bn1.weight.view(-1, 1, 1) + net.bn1.bias.view(-1, 1, 1)
    torch.testing.assert_close(net.bn1(x), expected, rtol=1e-7, atol=1e-7)


def test_a_whole_file_of_python_2(tmp_path):
    net = tiny_bottlenecks("gn")
    (tmp_path / "w.pkl").write_bytes(python2_pickle(to_caffe2(net.state_dict(), "gn")))
    weights = read_weights(tmp_path / "w.pkl")
    key = "layer3.0.downsample.1.weight"
    torch.testing.assert_close(weights.tensors[key], net.state_dict()[key])
    assert weights.norm == "gn"


def test_only_the_classifier_and_the_solver_are_dropped_silently(tmp_path, caplog):
    blobs = to_caffe2(tiny_bottlenecks("gn").state_dict(), "gn")
    extra = {
        "fc1000_w": np.zeros((2, 4), np.float32), "fc1000_b": np.zeros(2, np.float32),
        "conv1_w_momentum": np.zeros(3, np.float32), "lr": np.float32(0.1), "weight_order": ["a"],
        "model_iter": 7,
    }  # fmt: skip
    with caplog.at_level(logging.INFO):
        plain = read_weights(_write(tmp_path / "a.pkl", blobs))
        more = read_weights(_write(tmp_path / "b.pkl", blobs | extra))
    assert set(plain.tensors) == set(more.tensors)
    assert not caplog.records


def test_biases_of_convolutions_are_dropped_with_a_word(tmp_path, caplog):
    blobs = to_caffe2(tiny_bottlenecks("affine").state_dict(), "affine")
    biases = {name: np.full(4, 1e-9, np.float32) for name in ("conv1_b", "res2_0_branch1_b")}
    with caplog.at_level(logging.INFO):
        weights = read_weights(_write(tmp_path / "w.pkl", blobs | biases))
    assert "conv1.bias" not in weights.tensors
    assert "layer1.0.downsample.0.bias" not in weights.tensors
    assert "2 biases of convolutions (largest 1.0e-09)" in caplog.text


def test_unknown_and_double_blobs_are_listed(tmp_path):
    blobs = to_caffe2(tiny_bottlenecks("bn").state_dict(), "bn")
    blobs["fpn_inner_res5_2_sum_w"] = blobs["rpn_cls_logits_w"] = np.zeros(1, np.float32)
    blobs["res_conv1_bn_s"] = blobs["res_conv1_bn_gamma"]
    with pytest.raises(RefineError) as caught:
        read_weights(_write(tmp_path / "w.pkl", blobs))
    message = str(caught.value)
    for name in ("fpn_inner_res5_2_sum_w", "rpn_cls_logits_w", "bn_s", "bn_gamma"):
        assert name in message
    assert "conv1_w" not in message


def test_blobs_of_odd_shapes_are_left_to_the_backbone_to_refuse(tmp_path):
    blobs = to_caffe2(tiny_bottlenecks("gn").state_dict(), "gn")
    blobs["conv1_w"] = blobs["res3_0_branch2b_w"] = np.zeros((), np.float32)
    weights = read_weights(_write(tmp_path / "w.pkl", blobs))
    assert weights.tensors["conv1.weight"].shape == ()


@pytest.mark.parametrize("value", ["text", np.array([None]), 3.0, np.array(["a"])])
def test_a_blob_that_is_no_array_of_numbers_is_named(tmp_path, value):
    blobs = to_caffe2(tiny_bottlenecks("gn").state_dict(), "gn") | {"conv1_w": value}
    with pytest.raises(RefineError, match="conv1_w is not an array of numbers"):
        read_weights(_write(tmp_path / "w.pkl", blobs))


def test_half_and_double_precision_become_single(tmp_path):
    blobs = to_caffe2(tiny_bottlenecks("gn").state_dict(), "gn")
    blobs["conv1_gn_s"] = blobs["conv1_gn_s"].astype(np.float64)
    blobs["conv1_gn_b"] = blobs["conv1_gn_b"].astype(">f2")
    weights = read_weights(_write(tmp_path / "w.pkl", blobs))
    assert {v.dtype for v in weights.tensors.values()} == {torch.float32}
