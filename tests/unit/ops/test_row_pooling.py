"""RoIAlign as sums of rows, against torchvision's kernel."""

import math

import pytest
import torch
from torchvision.ops import roi_align

from refine.ops.row_pooling import pool_rows

LAST = torch.channels_last
SCALE = 1 / 4


def _rois(count, height, width, images=2):
    """Of all sizes, a third of them beyond the image."""
    sizes = torch.exp(torch.rand(count, 2) * math.log(400))
    corners = torch.rand(count, 2) * torch.tensor([width, height]) / SCALE
    corners[::3] -= sizes[::3]
    return torch.cat([torch.randint(images, (count, 1)).float(), corners, corners + sizes], dim=1)


@pytest.mark.parametrize("side", [1, 7, 14])
@pytest.mark.parametrize("ratio", [0, 2])
def test_rows_equal_torchvision(side, ratio):
    torch.manual_seed(side)
    ours = torch.randn(2, 5, 37, 50).contiguous(memory_format=LAST).requires_grad_()
    plain = ours.detach().contiguous().requires_grad_()
    rois = _rois(80, 37, 50)
    how = {"spatial_scale": SCALE, "sampling_ratio": ratio}
    pooled, expected = (
        pool_rows(ours, rois, side, **how),
        roi_align(plain, rois, side, **how, aligned=True),
    )
    torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-5)
    assert pooled.is_contiguous(memory_format=LAST)
    assert expected.abs().sum() > 0
    factor = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad(pooled, ours, factor)
    (expected_gradient,) = torch.autograd.grad(expected, plain, factor)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5)
    assert gradient.is_contiguous(memory_format=LAST)


@pytest.mark.parametrize(
    "box",
    [
        (3.0, 3, 3, 3),
        (9.0, 9, 5, 5),  # turned round
        (-90.0, -90, -50, -50),
        (500.0, 0, 600, 40),
        (0.0, 0, 200, 148),  # the whole map
        (-50.0, -40, 260, 190),
        (199.9, 147.9, 200, 148),
        (6.0, 6, 62, 62),  # bins of whole cells
    ],
)
@pytest.mark.parametrize("shape", [(37, 50), (1, 1)])
def test_peculiar_boxes(box, shape):
    torch.manual_seed(0)
    feature = torch.randn(1, 3, *shape)
    rois = torch.tensor([[0.0, *box]])
    how = {"spatial_scale": SCALE, "sampling_ratio": 0}
    expected = roi_align(feature, rois, 7, **how, aligned=True)
    torch.testing.assert_close(pool_rows(feature, rois, 7, **how), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ratio", [0, 2])
def test_empty_boxes_and_none_at_all(ratio):
    feature = torch.randn(1, 3, 8, 8, requires_grad=True)
    inf, nan = float("inf"), float("nan")
    rois = torch.tensor([[0, 0, 0, inf, 9], [0, nan, 0, 9, 9]])
    pooled = pool_rows(feature, rois, 7, spatial_scale=SCALE, sampling_ratio=ratio)
    assert not pooled.any()
    none = pool_rows(feature, rois[:0], 7, spatial_scale=SCALE, sampling_ratio=ratio)
    assert none.shape == (0, 3, 7, 7)
    (gradient,) = torch.autograd.grad(none.sum() + pooled.sum(), feature)
    assert not gradient.any()
