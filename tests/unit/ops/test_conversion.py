"""Conversions that cost one copy there and one back."""

import pytest
import torch

from refine.ops.conversion import format_of, make_convolvable, make_poolable, place_rows

LAST = torch.channels_last


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [LAST, torch.contiguous_format])
def test_a_poolable_feature_and_its_gradient(dtype, memory_format):
    feature = torch.randn(2, 3, 4, 5).to(dtype).to(memory_format=memory_format)
    feature.requires_grad_()
    poolable = make_poolable(feature)
    assert poolable.dtype == torch.float32
    assert poolable.is_contiguous()
    assert torch.equal(poolable, feature.float())
    factor = torch.randn(2, 3, 4, 5).bfloat16().float()
    (gradient,) = torch.autograd.grad((poolable * factor).sum(), feature)
    assert torch.equal(gradient, factor.to(dtype))
    assert gradient.is_contiguous(memory_format=memory_format)


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


def test_rows_go_to_their_places():
    rows = torch.randn(6, 2, requires_grad=True)
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    permuted = place_rows(rows, order)
    expected = torch.empty_like(rows).index_copy(0, order, rows)
    assert torch.equal(permuted, expected)
    assert torch.equal(place_rows(rows.detach(), order), expected)
    factor = torch.randn(6, 2)
    gradients = [torch.autograd.grad((x * factor).sum(), rows)[0] for x in (permuted, expected)]
    assert torch.equal(*gradients)
