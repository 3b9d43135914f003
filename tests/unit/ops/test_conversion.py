"""Conversions that cost one copy there and one back."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from refine.ops import triton_support
from refine.ops.conversion import (
    align_channels,
    format_of,
    is_poolable,
    make_convolvable,
    make_poolable,
    place_rows,
    upsample_twice,
)

LAST = torch.channels_last


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [LAST, torch.contiguous_format])
def test_a_poolable_feature_and_its_gradient(dtype, memory_format):
    feature = torch.randn(2, 3, 4, 5).to(dtype).to(memory_format=memory_format)
    feature.requires_grad_()
    poolable = make_poolable(feature)
    assert poolable.dtype == torch.float32
    assert poolable.is_contiguous(memory_format=LAST)  # on the CPU
    assert torch.equal(poolable, feature.float())
    factor = torch.randn(2, 3, 4, 5).bfloat16().float().to(memory_format=LAST)
    (gradient,) = torch.autograd.grad((poolable * factor).sum(), feature)
    assert torch.equal(gradient, factor.to(dtype))
    assert gradient.is_contiguous(memory_format=memory_format)


def test_our_kernels_pool_features_as_they_are(monkeypatch):
    on_gpu = SimpleNamespace(is_cuda=True, dtype=torch.bfloat16)
    assert not is_poolable(on_gpu)  # there is no GPU here
    monkeypatch.setattr(triton_support, "has_matrix_units", lambda: True)
    assert make_poolable(on_gpu) is on_gpu
    assert not is_poolable(SimpleNamespace(is_cuda=True, dtype=torch.float64))
    assert not is_poolable(torch.zeros(1, 2, 3, 4))


def test_pooled_features_are_converted_for_convolutions_under_autocast_alone():
    pooled = torch.randn(3, 8, 4, 4, requires_grad=True)
    assert make_convolvable(pooled) is pooled
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ready = make_convolvable(pooled)
    assert ready.dtype == torch.bfloat16
    assert format_of(ready) == LAST
    assert torch.equal(ready, pooled.bfloat16())
    (gradient,) = torch.autograd.grad(ready, pooled, torch.ones_like(ready))
    assert gradient.dtype == torch.float32
    assert gradient.is_contiguous()
    assert torch.equal(gradient, torch.ones_like(pooled))


@pytest.mark.parametrize(
    "rows", [torch.randn(6, 2), torch.randn(6, 3, 4, 5).to(memory_format=LAST)]
)
def test_rows_go_to_their_places(rows):
    rows = rows.clone().requires_grad_()
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    permuted = place_rows(rows, order)
    expected = torch.empty_like(rows).index_copy(0, order, rows)
    assert torch.equal(permuted, expected)
    assert torch.equal(place_rows(rows.detach(), order), expected)
    assert permuted.stride() == rows.stride()
    factor = torch.randn_like(rows)
    gradients = [torch.autograd.grad((x * factor).sum(), rows)[0] for x in (permuted, expected)]
    assert torch.equal(*gradients)


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True


@pytest.mark.parametrize(("channels", "aligned"), [(389, 392), (5, 8), (16, 16)])
def test_a_gpu_gets_channels_in_eights(channels, aligned):
    x = torch.randn(2, channels, 6, 7).to(memory_format=LAST)
    weight = torch.randn(4, channels, 3, 3)
    assert align_channels(x, weight) == (x, weight)
    wide, wide_weight = align_channels(x.as_subclass(OnGpu), weight)
    assert wide.shape[1] == wide_weight.shape[1] == aligned
    assert format_of(wide) == LAST
    found = F.conv2d(wide.as_subclass(torch.Tensor), wide_weight)
    torch.testing.assert_close(found, F.conv2d(x, weight), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_upsampling_keeps_the_type_under_autocast(dtype):
    x = torch.randn(2, 3, 4, 5).to(dtype).requires_grad_()
    expected = F.interpolate(x.float(), scale_factor=2, mode="bilinear")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        large = upsample_twice(x)
    assert large.dtype == dtype
    torch.testing.assert_close(large, expected.to(dtype), rtol=2**-7, atol=1e-6)
    (gradient,) = torch.autograd.grad(large.sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, 4.0))
