"""Convolutions against torch's in double precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from refine.detector.blocks import SameConv
from refine.ops import convolution
from refine.ops.convolution import convolve

LAST, FIRST = torch.channels_last, torch.contiguous_format
LARGE = (1, 128, 80, 64)


@pytest.fixture
def calls(monkeypatch):
    """The shapes that Winograd's form was asked for."""
    found, convolve_tiles = [], convolution._convolve_tiles

    def record(inputs, weight, bias):
        found.append(tuple(inputs[0].shape))
        return convolve_tiles(inputs, weight, bias)

    monkeypatch.setattr(convolution, "_convolve_tiles", record)
    return found


def _draw(shape, outs, *, kernel=3):
    x = torch.randn(shape)
    return x, torch.randn(outs, shape[1], kernel, kernel), torch.randn(outs)


def _assert_exact(found, x, weight, bias):
    weight, x = weight.double(), x.double()
    bias = None if bias is None else bias.double()
    expected = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("at_once", [1, 9, 80])
@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1, 1),
        (2, 3, 4, 4),
        (1, 5, 5, 8),
        (3, 8, 14, 14),
        (7, 2, 3, 9),
        (2, 16, 17, 6),
        (1, 4, 2, 40),
    ],
)
def test_any_size_in_any_pieces(monkeypatch, calls, shape, at_once, threads):
    for limit in ("_FEWEST_CHANNELS", "_LEAST_ALONE", "_LEAST_OF_EACH"):
        monkeypatch.setattr(convolution, limit, 1)
    torch.set_num_threads(threads)
    monkeypatch.setattr(convolution, "_TILES_AT_ONCE", at_once)
    x, weight, bias = _draw(shape, 6)
    with torch.inference_mode():
        _assert_exact(convolve(x, weight, bias), x, weight, bias)
        found = convolve(x.to(memory_format=LAST), weight.to(memory_format=LAST))
    _assert_exact(found, x, weight, None)
    with torch.no_grad():
        assert not convolve(x, weight).is_inference()
    assert calls == [shape] * 3
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("memory_format", [LAST, FIRST])
def test_large_ones_as_the_network_has_them(calls, memory_format):
    for shape, outs in (((1, 256, 30, 40), 256), ((9, 200, 14, 14), 256)):
        x, weight, bias = _draw(shape, outs)
        features = x.relu().to(memory_format=memory_format)
        with torch.inference_mode():
            found = convolve(features, weight, bias)
        _assert_exact(found, features, weight, bias)
        assert found.is_contiguous(memory_format=LAST)
    assert calls == [(1, 256, 30, 40), (9, 200, 14, 14)]


def test_an_image_alone_is_as_among_others(calls):
    x, weight, bias = _draw((3, 128, 80, 64), 128)
    with torch.inference_mode():
        assert torch.allclose(convolve(x[1:2], weight, bias), convolve(x, weight, bias)[1:2])
    assert len(calls) == 2


def test_a_part_of_the_weights(calls):
    x, weight, bias = _draw((1, 130, 80, 64), 128)
    with torch.inference_mode():
        _assert_exact(convolve(x[:, 2:], weight[:, 2:], bias), x[:, 2:], weight[:, 2:], bias)
    assert calls == [LARGE]


@pytest.mark.parametrize("shape", [LARGE, (1, 128, 3, 5)])
def test_two_inputs_are_as_one_with_the_channels_of_both(calls, shape):
    x, weight, bias = _draw((1, 133, *shape[2:]), 128)
    with torch.inference_mode():
        found = convolve(x[:, 5:], weight[:, 5:], bias, (x[:, :5], weight[:, :5]))
    _assert_exact(found, x, weight, bias)
    assert calls == [shape] * (shape == LARGE)


def test_training_and_small_ones_are_torchs_own(calls):
    x, weight, bias = _draw(LARGE, 128)
    assert torch.equal(convolve(x, weight, bias), F.conv2d(x, weight, bias, padding=1))
    with torch.inference_mode():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert convolve(x, weight, bias).dtype == torch.bfloat16
        assert convolve(x.bfloat16(), weight.bfloat16()).dtype == torch.bfloat16
        for shape, outs, kernel in (
            (LARGE, 128, 1),
            (LARGE, 127, 3),
            ((1, 127, 80, 64), 128, 3),
            ((1, 128, 8, 8), 128, 3),
            ((0, 128, 14, 14), 128, 3),
        ):
            x, weight, bias = _draw(shape, outs, kernel=kernel)
            expected = F.conv2d(x, weight, bias, padding=kernel // 2)
            assert torch.equal(convolve(x, weight, bias), expected)
        torch.set_num_threads(4)
        convolve(*_draw((1, 128, 60, 80), 128))
        assert calls == []
        torch.set_num_threads(1)
        convolve(*_draw((1, 128, 60, 80), 128))
    assert len(calls) == 1


def test_exported_networks_have_plain_convolutions(calls):
    conv = SameConv(128, 128, 3, padding=1)
    with torch.no_grad():
        program = torch.export.export(conv, (torch.randn(LARGE),))
    assert "conv2d" in program.graph_module.code
    assert "bmm" not in program.graph_module.code
    assert calls == []


def test_convolutions_of_other_modules_are_adopted(calls):
    last = nn.Sequential(nn.Conv2d(128, 4, 1), nn.Conv2d(4, 4, 3, stride=2, padding=1))
    part = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1), last)
    x, keys = torch.randn(LARGE), list(part.state_dict())
    with torch.inference_mode():
        expected = part(x)
        SameConv.adopt(part)
        assert torch.allclose(part(x), expected, atol=1e-5)
    assert [*part.state_dict()] == keys
    for other in ({"padding": 0}, {"dilation": 2, "padding": 2}, {"padding_mode": "reflect"}):
        conv = nn.Conv2d(128, 128, 3, **{"padding": 1} | other)
        SameConv.adopt(conv)
        assert type(conv) is nn.Conv2d
    assert calls == [LARGE]
