"""Group normalisation on a GPU: its kernels in Triton's interpreter, against PyTorch's."""

import pytest
import torch

from make.kernels import compile_kernel, run_interpreted
from refine.ops import channels_last_norm
from refine.ops.channels_last_norm import fits

PROGRAM = """
import itertools
import torch
import torch.nn.functional as F
from refine.ops.channels_last_norm import normalize_groups

LAST = torch.channels_last
SHAPES = (((2, 32, 9, 7), 4), ((3, 96, 14, 14), 12), ((1, 256, 20, 33), 32))
for (shape, groups), dtype in itertools.product(SHAPES, (torch.float32, torch.bfloat16)):
    torch.manual_seed(0)
    x = (3 + 2 * torch.randn(shape)).to(dtype).to(memory_format=LAST)
    weight, bias, factor = torch.randn(shape[1]), torch.randn(shape[1]), torch.randn(shape)
    leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
    found = normalize_groups(leaves[0], groups, *leaves[1:], 1e-5)
    gradients = torch.autograd.grad(found, leaves, factor.to(dtype))
    for tensor in (found, gradients[0]):
        assert tensor.dtype == dtype
        assert tensor.is_contiguous(memory_format=LAST)
    exact = [t.double().requires_grad_() for t in (x, weight, bias)]
    expected = F.group_norm(exact[0], groups, *exact[1:], 1e-5)
    expected_gradients = torch.autograd.grad(expected, exact, factor.to(dtype).double())
    # the interpreter cuts bfloat16 off where a GPU rounds
    least = 2e-6 if dtype == torch.float32 else 2**-7
    for ours, theirs in zip((found, *gradients), (expected, *expected_gradients), strict=True):
        error = float((ours - theirs).detach().abs().max() / theirs.detach().abs().max())
        assert error < least, (ours.shape, dtype, error)
print("compared")
"""


def test_values_and_gradients_are_those_of_pytorch():
    assert run_interpreted(PROGRAM) == "compared\n"


@pytest.mark.parametrize("name", ["_sum_kernel", "_mix_kernel"])
def test_they_compile(name):
    pointers = {"x_ptr": "*bf16", "y_ptr": "*bf16", "factor_ptr": "*fp32", "out_ptr": "*fp32"}
    constants = {"rows": 16, "channels": 256, "steps": 16}
    if name == "_mix_kernel":
        del constants["steps"]
    else:
        del pointers["factor_ptr"]
    compile_kernel("refine.ops.norm_kernels", name, pointers=pointers, constants=constants)


def test_only_what_is_channels_last_on_a_gpu_takes_this_form(monkeypatch):
    x = torch.randn(2, 32, 4, 4)
    last = x.to(memory_format=torch.channels_last)
    assert not fits(last)  # the CPU has its own
    on_gpu = type("OnGpu", (), {"is_cuda": True, "ndim": 4, "numel": lambda self: 8})()
    on_gpu.is_contiguous = lambda memory_format=None: memory_format is torch.channels_last
    assert not fits(on_gpu)  # without Triton on a GPU
    monkeypatch.setattr(channels_last_norm, "is_available", lambda: True)
    for is_last in (True, False):
        on_gpu.is_contiguous = lambda memory_format=None, is_last=is_last: (
            is_last if memory_format is torch.channels_last else not is_last
        )
        assert fits(on_gpu) == is_last
