"""Both forms of ROI-Flatten equal the loop over pixels, in values and gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import roi_flatten as oracle
from refine.ops.roi_flatten import flatten_by_crops, flatten_by_stack

FORMS = {"crops": flatten_by_crops, "stack": flatten_by_stack}
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


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_values_and_gradients_equal_the_loop(form, seed):
    scene = random_scene(seed)
    canvas, grad = run(FORMS[form], scene, torch.float64)
    expected, expected_grad = oracle.flatten(**scene, num_planes=NUM_PLANES)
    np.testing.assert_allclose(canvas, expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(grad, expected_grad, rtol=0, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_both_forms_agree_in_float32(seed):
    scene = random_scene(seed)
    (crops, grad), (stack, stack_grad) = (run(f, scene, torch.float32) for f in FORMS.values())
    exact, _ = run(flatten_by_crops, scene, torch.float64)
    assert crops.dtype == grad.dtype == stack.dtype == stack_grad.dtype == np.float32
    np.testing.assert_allclose(crops, exact, rtol=0, atol=1e-6)
    np.testing.assert_allclose(stack, exact, rtol=0, atol=1e-6)
    np.testing.assert_allclose(grad, stack_grad, rtol=1e-5, atol=1e-5)


def test_random_scenes_reach_every_case():
    """Else the properties above would prove nothing."""
    scenes = [random_scene(seed) for seed in range(120)]
    drawn = [(s, *run(flatten_by_crops, s, torch.float64)) for s in scenes]
    assert {s["reduce"] for s, *_ in drawn} == {"max", "mean"}
    assert sum(canvas.any() for _, canvas, _ in drawn) > 50
    assert any(not len(s["masks"]) for s, *_ in drawn)
    losers = sum((~grad.any(axis=(1, 2))).sum() for *_, grad in drawn)
    winners = sum(grad.any(axis=(1, 2)).sum() for *_, grad in drawn)
    assert losers > 25
    assert winners > 50
