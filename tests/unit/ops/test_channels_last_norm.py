"""Group normalisation on a GPU: its kernels in Triton's interpreter, against PyTorch's."""

import os
import subprocess
import sys

import pytest
import torch

from refine.ops import channels_last_norm
from refine.ops.channels_last_norm import fits

# another process: what Triton itself defines must be defined for the interpreter, too
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
    pytest.importorskip("triton")
    command = [sys.executable, "-c", PROGRAM]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "compared\n", done.stderr


def test_only_what_is_channels_last_on_a_gpu_takes_this_form(monkeypatch):
    x = torch.randn(2, 32, 4, 4)
    last = x.to(memory_format=torch.channels_last)
    assert not fits(last)  # the CPU has its own
    on_gpu = type("OnGpu", (), {"is_cuda": True, "ndim": 4, "numel": lambda self: 8})()
    on_gpu.is_contiguous = lambda memory_format=None: memory_format is torch.channels_last
    assert not fits(on_gpu)  # unless it is asked for
    monkeypatch.setattr(channels_last_norm, "_IS_ON", True)
    for is_last in (True, False):
        on_gpu.is_contiguous = lambda memory_format=None, is_last=is_last: (
            is_last if memory_format is torch.channels_last else not is_last
        )
        assert fits(on_gpu) == is_last
