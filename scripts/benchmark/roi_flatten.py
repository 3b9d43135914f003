"""Stage ``roi_flatten``: 100 masks on a canvas of 80 planes, against sampling each on all of it.

The usual way is torch's ``grid_sample`` of every mask on the whole canvas (a stack ``N x h x w``),
then ``scatter_reduce`` by the maximum. It also draws the halo of half a mask cell around each box
that ours cuts; what is compared are the pixels, or the gradients, where there is no halo.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.case import Case, peak_mib
from refine.ops.roi_flatten import flatten_rois
from refine.types import STRIDE

NUM_MASKS, SIDE = 100, 28
NUM_PLANES, HEIGHT, WIDTH = 80, 200, 333  # 800 x 1333 pixels


class Scene(NamedTuple):
    """What both sides read; ``grad`` is that of the canvas, zero on every halo."""

    masks: Tensor
    boxes: Tensor
    planes: Tensor
    grad: Tensor


def build() -> list[Case]:
    """Forward as at inference, and forward with backward as in training."""
    torch.set_num_threads(1)
    scene = _generate(np.random.default_rng(0))
    own = scene.grad.nbytes / 2**20  # torch's memory, which is not traced
    peak = peak_mib(partial(_draw_and_return, _flatten, scene)) + own
    print(f"roi_flatten: {peak:.0f} MiB with canvas and gradients")
    runs = (("forward", _draw, 2.0), ("forward + backward", _draw_and_return, 4.0))
    return [
        Case(
            name=f"roi_flatten, {name}",
            ours=partial(run, _flatten, scene),
            peer=partial(run, _flatten_by_grid_sample, scene),
            check=partial(_check, run, scene),
            goal=goal,
        )
        for name, run, goal in runs
    ]


def _draw(flatten: Callable[[Scene], Tensor], scene: Scene) -> Tensor:
    with torch.no_grad():
        return flatten(scene)


def _draw_and_return(flatten: Callable[[Scene], Tensor], scene: Scene) -> Tensor:
    masks = scene.masks.clone().requires_grad_()
    canvas = flatten(scene._replace(masks=masks))
    (grad,) = torch.autograd.grad(canvas, masks, scene.grad)
    return grad


def _flatten(scene: Scene) -> Tensor:
    return flatten_rois(
        scene.masks,
        scene.boxes,
        scene.planes,
        num_planes=NUM_PLANES,
        size=(HEIGHT, WIDTH),
        stride=STRIDE,
    )


def _flatten_by_grid_sample(scene: Scene) -> Tensor:
    left, top, right, bottom = scene.boxes.T[:, :, None]
    x = ((torch.arange(WIDTH) + 0.5) * STRIDE - left) / (right - left) * 2 - 1
    y = ((torch.arange(HEIGHT) + 0.5) * STRIDE - top) / (bottom - top) * 2 - 1
    shape = (len(scene.boxes), HEIGHT, WIDTH)
    grid = torch.stack([x[:, None].expand(shape), y[:, :, None].expand(shape)], dim=-1)
    stack = F.grid_sample(scene.masks[:, None], grid, align_corners=False)[:, 0]
    canvas = stack.new_zeros(NUM_PLANES, HEIGHT, WIDTH)
    return canvas.scatter_reduce(0, scene.planes[:, None, None].expand(shape), stack, "amax")


def _check(run: Callable[[Callable[[Scene], Tensor], Scene], Tensor], scene: Scene) -> None:
    ours, theirs = run(_flatten, scene), run(_flatten_by_grid_sample, scene)
    if run is _draw:
        ours, theirs = ours[scene.grad != 0], theirs[scene.grad != 0]
    assert ours.count_nonzero() > 10_000, "the scene is too easy"
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4), "answers differ"


def _generate(rng: np.random.Generator) -> Scene:
    """Smooth masks on boxes of COCO's spread of sizes, of 12 categories."""
    width, height = WIDTH * STRIDE, HEIGHT * STRIDE
    sizes = np.exp(rng.normal(np.log(0.17 * np.sqrt(width * height)), 0.9, NUM_MASKS))
    aspects = np.exp(rng.normal(0, 0.4, NUM_MASKS))
    w, h = (np.clip(sizes * a, 8, 0.9 * height) for a in (aspects, 1 / aspects))
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    boxes = torch.from_numpy(np.stack([x, y, x + w, y + h], axis=1)).float()
    planes = torch.from_numpy(rng.choice(rng.permutation(NUM_PLANES)[:12], NUM_MASKS))
    coarse = torch.from_numpy(rng.normal(0, 4, (NUM_MASKS, 1, 7, 7))).float()
    masks = F.interpolate(coarse, (SIDE, SIDE), mode="bilinear")[:, 0].sigmoid()
    grad = torch.from_numpy(rng.uniform(0.1, 1, (NUM_PLANES, HEIGHT, WIDTH))).float()
    for box, plane in zip(boxes, planes, strict=True):
        grad[plane] *= ~_halo(box)
    return Scene(masks, boxes, planes, grad)


def _halo(box: Tensor) -> Tensor:
    """``[h, w]`` bool: outside the box, but within half a mask cell of it."""
    margin = (box[2:] - box[:2]) / SIDE / 2
    return _inside(torch.cat([box[:2] - margin, box[2:] + margin])) & ~_inside(box)


def _inside(box: Tensor) -> Tensor:
    x, y = (torch.arange(side) * STRIDE + STRIDE / 2 for side in (WIDTH, HEIGHT))
    return ((y >= box[1]) & (y < box[3]))[:, None] & (x >= box[0]) & (x < box[2])
