"""Stage ``roi_align``: RoI features of boxes of all sizes, against torchvision's kernel.

Both get the feature as a network leaves it, channels last in memory.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import roi_align

from benchmark.case import Case
from refine.ops.roi_align import pool_rois

SIDE, STRIDE = 14, 4
Pool = Callable[[Tensor], Tensor]


def build() -> list[Case]:
    """100 boxes on P2 of an image of 800x1333, forward, and with the gradient."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    size = torch.tensor([1333.0, 800.0])
    sides = size * torch.exp(-3 * torch.rand(100, 2))  # from a twentieth of the image
    corners = (size - sides) * torch.rand(100, 2)
    boxes = torch.cat([corners, corners + sides], dim=1)
    feature = torch.randn(1, 256, 200, 336).contiguous(memory_format=torch.channels_last)
    how: dict[str, Any] = {"side": SIDE, "canonical_size_px": 1.0, "sampling_ratio": 0}

    def ours(x: Tensor) -> Tensor:
        return pool_rois([x], [boxes], strides=[STRIDE], **how)

    def peer(x: Tensor) -> Tensor:
        pooled: Tensor = roi_align(x.contiguous(), [boxes], SIDE, 1 / STRIDE, 0, aligned=True)
        return pooled

    def check() -> None:
        torch.testing.assert_close(ours(feature), peer(feature), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(_learn(ours, feature), _learn(peer, feature))

    return [
        Case(
            name=f"RoIAlign, {name}",
            ours=partial(run, ours, feature),
            peer=partial(run, peer, feature),
            check=check,
            goal=None,
            rounds=7,
        )
        for name, run in (("forward", _infer), ("forward and backward", _learn))
    ]


def _infer(pool: Pool, feature: Tensor) -> Tensor:
    with torch.inference_mode():
        return pool(feature)


def _learn(pool: Pool, feature: Tensor) -> Tensor:
    """The gradient of a weighted sum."""
    x = feature.detach().requires_grad_()
    pooled = pool(x)
    factor = torch.linspace(0, 1, SIDE).expand_as(pooled)
    (gradient,) = torch.autograd.grad(pooled, x, factor)
    return gradient
