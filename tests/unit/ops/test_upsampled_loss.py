"""Cross-entropy without the upsampled map, against the plain form in float64."""

import pytest
import torch
import torch.nn.functional as F

from refine.ops.upsampled_loss import sum_by_cells, sum_by_image, sum_cross_entropy


def _case(shape, *, void=0.2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    batch, categories, height, width = shape
    logits = 3 * torch.randn(shape, generator=generator)
    size = (batch, 4 * height, 4 * width)
    targets = torch.randint(0, categories, size, dtype=torch.uint8, generator=generator)
    targets[torch.rand(size, generator=generator) < void] = 255
    return logits, targets


def _expect(logits, targets):
    exact = logits.double().requires_grad_()
    full = F.interpolate(exact, scale_factor=4, mode="bilinear")
    total = F.cross_entropy(full, targets.long(), ignore_index=255, reduction="sum")
    return total.detach(), torch.autograd.grad(total, exact)[0]


@pytest.mark.parametrize("form", [sum_by_cells, sum_by_image])
@pytest.mark.parametrize(
    ("shape", "void"),
    [((2, 40, 8, 12), 0.2), ((1, 133, 40, 60), 0.0), ((1, 3, 1, 1), 0.0), ((3, 5, 2, 7), 1.0)],
)
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_both_forms_are_the_plain_one(form, shape, void, memory_format):
    logits, targets = _case(shape, void=void)
    given = logits.to(memory_format=memory_format)
    total, gradient = form(given, targets, needs_gradient=True)
    expected, expected_gradient = _expect(logits, targets)
    torch.testing.assert_close(total.double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-5, atol=1e-5)
    alone, none = form(given, targets, needs_gradient=False)
    assert none is None
    torch.testing.assert_close(alone, total)


@pytest.mark.parametrize("categories", [5, 40])
def test_it_is_exact_under_autocast(categories):
    logits, targets = _case((2, categories, 6, 9))
    half = logits.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = sum_cross_entropy(half, targets)
    (gradient,) = torch.autograd.grad(2 * total, half)
    expected, expected_gradient = _expect(half.detach(), targets)
    torch.testing.assert_close(total.double(), expected, rtol=1e-6, atol=0)
    assert gradient.dtype == torch.bfloat16
    torch.testing.assert_close(gradient, 2 * expected_gradient.bfloat16(), rtol=2**-7, atol=1e-5)
