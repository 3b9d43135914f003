"""The kernel of the semantic loss: interpreted, and compiled for a GPU that is not here."""

import pytest

from make.kernels import compile_kernel, run_interpreted

PROGRAM = """
import itertools
import torch
import torch.nn.functional as F
from refine.ops.upsampled_loss import sum_by_kernel

SHAPES = (((2, 5, 2, 3), 0.2), ((1, 40, 2, 1), 0.0), ((1, 3, 1, 1), 0.0), ((1, 5, 1, 2), 1.0))
for (shape, void), dtype, form in itertools.product(
    SHAPES, (torch.float32, torch.bfloat16), (torch.channels_last, torch.contiguous_format)
):
    torch.manual_seed(0)
    logits = (3 * torch.randn(shape)).to(dtype).contiguous(memory_format=form)
    size = (shape[0], 4 * shape[2], 4 * shape[3])
    targets = torch.randint(0, shape[1], size, dtype=torch.uint8)
    targets[torch.rand(size) < void] = 255
    total, gradient = sum_by_kernel(logits, targets, needs_gradient=True)
    exact = logits.double().requires_grad_()
    full = F.interpolate(exact, scale_factor=4, mode="bilinear")
    expected = F.cross_entropy(full, targets.long(), ignore_index=255, reduction="sum")
    (expected_gradient,) = torch.autograd.grad(expected, exact)
    torch.testing.assert_close(total.double(), expected.detach(), rtol=1e-6, atol=1e-6)
    assert gradient.dtype == dtype
    # the interpreter cuts bfloat16 off where a GPU rounds
    least = 1e-5 if dtype == torch.float32 else 2**-7
    error = (gradient - expected_gradient).abs() / (1 + expected_gradient.abs())
    assert float(error.max()) < least, (shape, dtype, float(error.max()))
    alone, none = sum_by_kernel(logits, targets, needs_gradient=False)
    assert none is None and alone == total
targets[0, 0, 0] = 5  # of five categories
assert sum_by_kernel(logits, targets, needs_gradient=False)[0].isnan()
print("compared")
"""


def test_the_sum_and_its_gradient_are_those_of_the_upsampled_map():
    assert run_interpreted(PROGRAM) == "compared\n"


@pytest.mark.parametrize("has_gradient", [True, False])
def test_it_compiles(has_gradient):
    compile_kernel(
        "refine.ops.loss_kernels",
        "_cell_kernel",
        pointers={"logits_ptr": "*bf16", "targets_ptr": "*u8", "gradient_ptr": "*fp32"}
        | {"sums_ptr": "*fp32"},
        constants={"step": 1 + has_gradient, "chunk": 32, "has_gradient": has_gradient},
    )
