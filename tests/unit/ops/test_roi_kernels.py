"""The kernels of RoIAlign: interpreted, and compiled for a GPU that is not here."""

import pytest

from make.kernels import compile_kernel, run_interpreted

PROGRAM = """
import numpy as np
import torch
from torchvision.ops import roi_align
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle
import refine.ops.roi_align as ours

def widen(handle):
    # the interpreter has bfloat16 as integers, and would multiply these
    data = handle.data
    return (data.astype(np.uint32) << 16).view(np.float32) if data.dtype == np.uint16 else data

def create_dot(self, a, b, total, *_):
    product = widen(a).astype(np.float32) @ widen(b).astype(np.float32)
    return TensorHandle(product + total.data, total.dtype.scalar)

InterpreterBuilder.create_dot = create_dot
ours.is_poolable = lambda feature: True

def pool_slowly(features, boxes, strides, side, ratio):
    flat = torch.cat(boxes).double()
    image = torch.cat([torch.full((len(b), 1), k) for k, b in enumerate(boxes)])
    first, last = (len(bin(strides[k])) - 3 for k in (0, -1))
    level = ours.assign_levels(flat, canonical_size_px=20, min_level=first, max_level=last) - first
    pooled = torch.zeros(len(flat), features[0].shape[1], side, side, dtype=torch.float64)
    for k, (feature, stride) in enumerate(zip(features, strides)):
        rois = torch.cat([image, flat], dim=1)
        of_level = roi_align(feature, rois, side, 1 / stride, ratio, aligned=True)
        pooled += of_level * (level == k)[:, None, None, None]
    return pooled

def compare(boxes, dtype, channels, strides, side, ratio):
    torch.manual_seed(0)
    features = [torch.randn(len(boxes), channels, 36 // s, 48 // s).to(dtype) for s in strides]
    features = [f.to(memory_format=torch.channels_last).requires_grad_() for f in features]
    found = ours.pool_rois(
        features, boxes, strides=strides, side=side, canonical_size_px=20, sampling_ratio=ratio
    )
    factor = torch.randn(found.shape).to(dtype)
    gradients = torch.autograd.grad(found, features, factor)
    exact = [f.detach().double().contiguous().requires_grad_() for f in features]
    expected = pool_slowly(exact, boxes, strides, side, ratio)
    expected_gradients = torch.autograd.grad(expected, exact, factor.double())
    # the interpreter cuts bfloat16 off where a GPU rounds
    least = {torch.float32: 1e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}[dtype]
    for a, b in zip((found, *gradients), (expected, *expected_gradients), strict=True):
        assert a.dtype == dtype and a.shape == b.shape
        assert a.is_contiguous(memory_format=torch.channels_last)
        error = (a - b).detach().abs() / (1 + b.detach().abs())
        assert error.numel() == 0 or float(error.max()) < least, (a.shape, dtype, error.max())

torch.manual_seed(1)
corners = torch.rand(6, 2, 2) * torch.tensor([60.0, 50.0]) - 6
random = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)
odd = torch.tensor([
    [8.0, 4, 40, 32],  # on borders of cells
    [-4.0, -4, 52, 52],  # a sample lies exactly on the last place that counts
    [-100.0, -50, 300, 90],  # larger than the image
    [13.0, 9, 13, 9],  # without area
    [13.0, 9, 13, 30],
    [13.2, 9.3, 14, 9.9],  # smaller than a cell
    [70.0, 60, 90, 80],  # outside
    [44.0, 30, 60, 48],
])
none = torch.zeros(0, 4)
compare([random, none, odd], torch.float32, 3, [4], 14, 0)
compare([random, odd], torch.float32, 3, [4], 7, 2)
compare([random[:3], odd[:2]], torch.bfloat16, 133, [4], 7, 0)
compare([odd, random], torch.float16, 8, [2, 4, 8], 7, 0)
compare([none, none], torch.float32, 3, [4, 8], 7, 0)
print("compared")
"""


def test_values_and_gradients_are_those_of_torchvision():
    assert run_interpreted(PROGRAM) == "compared\n"


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("divisible", [("num_channels",), ()])
@pytest.mark.parametrize(
    ("kernel", "constants"),
    [
        ("_pool_kernel", {"columns": 16, "channels": 256}),
        ("_spread_kernel", {"bin_rows": 2, "rows": 8, "columns": 8, "channels": 128, "look": 64}),
    ],
)
def test_they_compile(kernel, constants, divisible, dtype):
    pointers = dict.fromkeys(("feature_ptr", "grad_ptr", "out_ptr"), f"*{dtype}")
    indices = {"image_ptr": "*i64", "level_ptr": "*i64", "first_ptr": "*i32"}
    compile_kernel(
        "refine.ops.roi_kernels",
        kernel,
        pointers=pointers | indices | {"box_ptr": "*fp32", "scale": "fp32"},
        constants=constants | {"ratio": 0, "reach": 4, "side": 14, "bins": 16},
        divisible=divisible,
    )
