"""Both forms of ROI-Flatten equal the loop over pixels, in values and gradients."""

from collections import Counter

import numpy as np
import torch

from oracles import roi_flatten as oracle
from refine.ops.roi_flatten import flatten_by_crops, flatten_by_stack

NUM_PLANES = 2


def random_boxes(rng, count, size, stride):
    """From nothing to far beyond the canvas; some on pixel centres, some without area."""
    height, width = (stride * side for side in size)
    centres = rng.uniform(-0.3, 1.3, (count, 2)) * (width, height)
    sides = rng.choice([0.0, 2.0, 9.0, 30.0, 500.0], (count, 2)) * rng.uniform(0.5, 1, (count, 2))
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    snapped = rng.random(count) < 0.3
    boxes[snapped] = np.round(boxes[snapped])  # whole pixels: centres lie on edges
    return boxes.astype(np.float32)


def random_scene(seed):
    rng = np.random.default_rng(seed)
    count, side = int(rng.integers(0, 7)), int(rng.choice([1, 2, 5]))
    size, stride = tuple(rng.integers(1, 9, 2).tolist()), int(rng.choice([1, 4, 8]))
    masks, boxes = rng.random((count, side, side)), random_boxes(rng, count, size, stride)
    planes = rng.integers(0, NUM_PLANES, count)
    if count > 1 and rng.random() < 0.4:  # exact ties
        masks[-1], boxes[-1], planes[-1] = masks[0], boxes[0], planes[0]
    if count and rng.random() < 0.2:
        masks[0] = 0
    grad, reduce = rng.normal(size=(NUM_PLANES, *size)), str(rng.choice(["max", "mean"]))
    return {
        "masks": masks, "boxes": boxes, "planes": planes, "grad": grad, "size": size,
        "stride": stride, "reduce": reduce,
    }  # fmt: skip


def run(form, scene, dtype):
    masks = torch.tensor(scene["masks"], dtype=dtype, requires_grad=True)
    canvas = form(
        masks,
        torch.from_numpy(scene["boxes"]),
        torch.from_numpy(scene["planes"]),
        shape=(NUM_PLANES, *scene["size"]),
        stride=scene["stride"],
        reduce=scene["reduce"],
    )
    (grad,) = torch.autograd.grad(canvas, masks, torch.tensor(scene["grad"], dtype=dtype))
    return canvas.detach().numpy(), grad.numpy()


def test_values_and_gradients_equal_the_loop():
    counts = Counter()
    for seed in range(150):
        scene = random_scene(seed)
        expected, expected_grad = oracle.flatten(**scene, num_planes=NUM_PLANES)
        for form in (flatten_by_crops, flatten_by_stack):
            canvas, grad = run(form, scene, torch.float64)
            np.testing.assert_allclose(canvas, expected, rtol=0, atol=1e-10)
            np.testing.assert_allclose(grad, expected_grad, rtol=0, atol=1e-9)
            canvas, grad = run(form, scene, torch.float32)
            assert canvas.dtype == grad.dtype == np.float32
            np.testing.assert_allclose(canvas, expected, rtol=0, atol=1e-6)
            np.testing.assert_allclose(grad, expected_grad, rtol=1e-5, atol=1e-5)
        shown = grad.any(axis=(1, 2))
        counts += Counter(winners=shown.sum(), losers=(~shown).sum(), drawn=int(canvas.any()))
        counts += Counter([scene["reduce"], "empty" if not len(grad) else "some"])
    # else the comparison would prove nothing
    least = {"winners": 60, "losers": 30, "drawn": 60, "max": 50, "mean": 50, "empty": 5}
    assert all(counts[key] > number for key, number in least.items()), counts
