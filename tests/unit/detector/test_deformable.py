import pytest
import torch
from torch import nn

from refine.detector.deformable import DeformableConv
from refine.detector.semantic_head import SemanticTrunk

every_kind = pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])


def _conv(*, dilation=1, bias=False, **shape):
    torch.manual_seed(0)
    return nn.Conv2d(16, 24, 3, padding=dilation, dilation=dilation, bias=bias, **shape)


def _run(conv, x, seed=1):
    """Result, and the gradients of a random weighting of it by input and weight."""
    x = x.clone().requires_grad_()
    y = conv(x)
    weighting = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
    gradients = torch.autograd.grad((y * weighting).sum(), [x, conv.weight])
    return y.detach(), *gradients


@every_kind
@pytest.mark.parametrize("offset_groups", [1, 4])
@pytest.mark.parametrize(
    "shape",
    [{}, {"groups": 4}, {"stride": 2}, {"groups": 8, "stride": 2}, {"dilation": 2, "bias": True}],
    ids=str,
)
def test_it_starts_as_the_plain_convolution(modulated, offset_groups, shape):
    plain = _conv(**shape)
    deformable = DeformableConv(_conv(**shape), modulated=modulated, groups=offset_groups)
    x = torch.randn(2, 16, 9, 11, generator=torch.Generator().manual_seed(2))
    for ours, theirs in zip(_run(deformable, x), _run(plain, x), strict=True):
        atol = 1e-6 * max(float(theirs.abs().max()), 1.0)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@every_kind
def test_offsets_learn_from_the_first_step(modulated):
    deformable = DeformableConv(_conv(), modulated=modulated, groups=2)
    deformable(torch.randn(1, 16, 8, 8)).square().sum().backward()
    gradient = deformable.offsets.weight.grad
    # every group's shifts, and the factors of v2
    assert (gradient.flatten(1).abs().sum(dim=1) > 0).all()


def test_a_constant_offset_is_a_shift_of_the_image():
    deformable = DeformableConv(_conv())
    x = torch.randn(1, 16, 10, 10)
    expected = deformable(x)
    with torch.no_grad():
        deformable.offsets.bias[0::2] = 1.0  # (dy, dx) of each tap: one row down
    torch.testing.assert_close(deformable(x)[..., 1:-2, 1:-1], expected[..., 2:-1, 1:-1])


@torch.no_grad()
def test_a_factor_of_nothing_removes_a_tap():
    deformable = DeformableConv(_conv(), modulated=True)
    deformable.offsets.bias[18:] = -200.0
    assert not deformable(torch.randn(1, 16, 6, 6)).any()


@every_kind
def test_it_computes_in_float32_under_autocast(modulated):
    deformable = DeformableConv(_conv(), modulated=modulated)
    x = torch.randn(1, 16, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        result = deformable(x.bfloat16())
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), deformable(x), rtol=0.02, atol=0.02)


def test_a_deformable_semantic_trunk_starts_as_the_plain_one():
    plain, deformable = (
        SemanticTrunk(32, 32, (4, 8, 16, 32), dcn=dcn, embedding=True) for dcn in (False, True)
    )
    deformable.load_state_dict(plain.state_dict(), strict=False)
    levels = [torch.randn(1, 32, 16 // 2**k, 24 // 2**k) for k in range(4)]
    torch.testing.assert_close(deformable(levels), plain(levels), rtol=1e-4, atol=1e-5)
    assert sum(isinstance(m, DeformableConv) for m in deformable.modules()) == 1 + 1 + 2 + 3
