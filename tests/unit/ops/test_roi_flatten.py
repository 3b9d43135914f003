"""ROI-Flatten reverses RoIAlign; what holds for it holds for both of its forms."""

import tracemalloc

import numpy as np
import pytest
import torch
from torchvision.ops import roi_align

from refine.ops import roi_flatten
from refine.ops.roi_flatten import flatten_rois

SIZE = (16, 20)  # of the canvas: 64 x 80 network pixels
NUM_PLANES = 3


@pytest.fixture(params=["crops", "stack"], autouse=True)
def form(request, monkeypatch):
    """The CPU takes the crops; every test also sees the form of the other devices."""
    if request.param == "stack":
        monkeypatch.setattr(roi_flatten, "flatten_by_crops", roi_flatten.flatten_by_stack)
    return request.param


def flatten(masks, boxes, planes=None, **changes):
    planes = torch.zeros(len(boxes), dtype=torch.int64) if planes is None else planes
    return flatten_rois(
        masks, boxes, planes, **({"num_planes": NUM_PLANES, "size": SIZE} | changes)
    )


def as_boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


@pytest.mark.parametrize("side", [14, 28])
def test_roi_align_at_the_same_box_recovers_a_smooth_mask(side):
    y, x = torch.meshgrid(*[(torch.arange(side) + 0.5) / side] * 2, indexing="ij")
    mask = torch.exp(-((y - 0.45) ** 2 + (x - 0.55) ** 2) / 0.05)[None]
    boxes = as_boxes([5, 3, 75, 60])
    canvas = flatten(mask, boxes, num_planes=1)
    found = roi_align(canvas[None], [boxes], side, spatial_scale=1 / 4, aligned=True)[:, 0]
    assert mask.std() > 0.2
    assert (found - mask).abs().mean() < 0.01


def test_a_gradient_that_is_not_finite_stays_with_the_winner():
    masks = torch.stack([torch.full((4, 4), v) for v in (0.2, 0.8)]).requires_grad_()
    flatten(masks, as_boxes(*[[0, 0, 64, 64]] * 2)).backward(
        torch.full((NUM_PLANES, *SIZE), torch.nan)
    )
    assert not masks.grad[0].any()
    assert masks.grad[1].isnan().all()


@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_no_rois_give_zeros_in_the_graph(reduce):
    weight = torch.ones(1, requires_grad=True)
    canvas = flatten(weight * torch.zeros(0, 28, 28), as_boxes(), reduce=reduce)
    assert canvas.shape == (NUM_PLANES, *SIZE)
    assert not canvas.any()
    canvas.sum().backward()
    assert torch.equal(weight.grad, torch.zeros(1))
    assert not flatten(torch.zeros(0, 28, 28), as_boxes()).requires_grad


def test_no_graph_is_kept_without_need():
    with torch.no_grad():
        canvas = flatten(torch.rand(1, 4, 4, requires_grad=True), as_boxes([0, 0, 64, 64]))
    assert not canvas.requires_grad


@pytest.mark.parametrize("reduce", ["max", "mean"])
@pytest.mark.parametrize(
    "box",
    [
        [8, 8, 8, 40], [8, 8, 40, 8], [40, 40, 8, 8], [10, 10, 10, 10], [-40, 2, -3, 30],
        [90, 2, 120, 30], [2, 70, 30, 90], [0, -9, 80, 0], [10.5, 10.5, 13.5, 13.5],
        [np.nan, 0, 40, 40], [0, 0, np.inf, 40], [-np.inf, -np.inf, np.inf, np.inf],
    ],
)  # fmt: skip
def test_boxes_that_hold_no_pixel_draw_nothing(box, reduce):
    masks = torch.rand(1, 5, 5, requires_grad=True)
    canvas = flatten(masks, as_boxes(box), reduce=reduce)
    assert torch.equal(canvas, torch.zeros(NUM_PLANES, *SIZE))
    canvas.sum().backward()
    assert torch.equal(masks.grad, torch.zeros(1, 5, 5))


def test_huge_boxes_and_a_canvas_of_one_pixel():
    huge = as_boxes([-1e6, -1e6, 1e6, 1e6])
    canvas = flatten(torch.full((1, 28, 28), 0.3), huge)
    torch.testing.assert_close(canvas[0], torch.full(SIZE, 0.3))
    one = flatten(torch.ones(1, 1, 1), as_boxes([1, 1, 3, 3]), num_planes=1, size=(1, 1))
    assert one.tolist() == [[[1.0]]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_autocast_and_half_masks_give_float32(dtype):
    boxes = as_boxes([0, 0, 40, 40], [-9, 3.3, 50, 20], [8, 30, 90, 70])
    masks = torch.rand(3, 28, 28).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        canvas = flatten(masks, boxes)
    assert canvas.dtype == torch.float32
    assert torch.equal(canvas, flatten(masks.float(), boxes))
    canvas.sum().backward()
    assert masks.grad.dtype == dtype
    assert masks.grad.any()


def test_more_rois_than_a_byte_counts():
    masks, box = torch.rand(300, 2, 2, requires_grad=True), [0, 0, 64, 64]
    canvas = flatten(masks, as_boxes(*[box] * 300), reduce="mean")
    expected = flatten(masks.mean(dim=0, keepdim=True), as_boxes(box))
    torch.testing.assert_close(canvas, expected)
    values = torch.arange(1, 301)[:, None, None].expand(300, 2, 2) / 300
    last = values.clone().requires_grad_()
    flatten(last, as_boxes(*[box] * 300)).sum().backward()
    assert torch.equal(last.grad.any(dim=(1, 2)).nonzero(), torch.tensor([[299]]))


def test_what_does_not_fit_is_refused():
    masks, boxes = torch.rand(2, 4, 4), as_boxes([0, 0, 8, 8], [0, 0, 8, 8])
    with pytest.raises(ValueError, match="'sum': expected one of max, mean"):
        flatten(masks, boxes, reduce="sum")
    with pytest.raises(ValueError, match=r"masks \(2, 4, 4\), boxes \(1, 4\)"):
        flatten(masks, boxes[:1])
    with pytest.raises(ValueError, match="do not fit"):
        flatten(masks[:, None], boxes)


@pytest.mark.parametrize("planes", [[0, -1], [0, NUM_PLANES]])
def test_planes_that_do_not_exist_are_refused(planes):
    boxes = as_boxes([0, 0, 64, 64], [0, 0, 64, 64])
    with pytest.raises((ValueError, IndexError, RuntimeError)):
        flatten(torch.rand(2, 4, 4), boxes, torch.tensor(planes))


@pytest.mark.parametrize("form", ["crops"], indirect=True)  # the other form builds the stack
def test_the_cpu_keeps_one_canvas_and_a_byte_a_pixel(form):
    """100 masks on a COCO canvas: a stack would take 25 MiB more forward, and backward again."""
    rng = np.random.default_rng(7)
    corners = rng.uniform(0, [1000, 500], (100, 2))
    boxes = as_boxes(*np.hstack([corners, corners + rng.uniform(20, 300, (100, 2))]).tolist())
    masks, planes = torch.rand(100, 28, 28, requires_grad=True), torch.arange(100) % 80
    grad = torch.rand(80, 200, 333)

    def draw_and_return():
        canvas = flatten(masks, boxes, planes, num_planes=80, size=(200, 333))
        torch.autograd.grad(canvas, masks, grad)

    draw_and_return()  # lazy imports
    tracemalloc.start()  # sees numpy's memory; torch's is the gradient that is handed in
    try:
        draw_and_return()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grad.nbytes < peak < 1.25 * grad.nbytes + 5 * 2**20
