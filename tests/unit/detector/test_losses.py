import weakref

import pytest
import torch
import torch.nn.functional as F

from refine.detector.losses import (
    classification_loss,
    compute_loss_weights,
    mask_loss,
    objectness_loss,
    regression_loss,
    semantic_loss,
    total_loss,
)
from refine.options import IBPPOptions, LossWeights, ModelOptions, RoIOptions, SemanticOptions


@pytest.mark.parametrize("num_categories", [5, 40])  # both memory formats
def test_semantic_loss_is_cross_entropy_at_input_size_without_void(num_categories):
    logits = torch.randn(2, num_categories, 8, 12, requires_grad=True)
    targets = torch.randint(0, num_categories, (2, 32, 48), dtype=torch.uint8)
    targets[0, :10] = 255
    full = F.interpolate(logits, scale_factor=4, mode="bilinear")
    expected = F.cross_entropy(full, targets.long(), ignore_index=255)
    loss = semantic_loss(logits, targets)
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(3 * loss, logits)
    (expected_gradient,) = torch.autograd.grad(3 * expected, logits)
    torch.testing.assert_close(gradient, expected_gradient)
    with torch.no_grad():
        torch.testing.assert_close(semantic_loss(logits, targets), expected)


def test_semantic_loss_keeps_only_the_small_logits_for_the_backward_pass():
    """T + 1 heads must not hold T + 1 maps of full size at once."""
    logits = torch.randn(2, 40, 16, 24, requires_grad=True)
    targets = torch.randint(0, 40, (2, 64, 96), dtype=torch.uint8)
    saved = []

    def pack(tensor):
        saved.append(weakref.ref(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = semantic_loss(logits, targets)
    assert loss.requires_grad
    waiting = [tensor().numel() for tensor in saved if tensor() is not None]
    assert max(waiting) == logits.numel()


def test_semantic_loss_of_void_is_zero_with_a_gradient():
    logits = torch.randn(1, 5, 8, 8, requires_grad=True)
    loss = semantic_loss(logits, torch.full((1, 32, 32), 255, dtype=torch.uint8))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert float(logits.grad.abs().sum()) == 0.0


def test_losses_of_nothing_are_zero_not_nan():
    empty = torch.zeros(0, requires_grad=True)
    assert float(objectness_loss(empty, torch.zeros(0, dtype=torch.bool)).detach()) == 0
    assert float(classification_loss(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))) == 0
    assert float(regression_loss(torch.zeros(0, 4), torch.zeros(0, 4), num_samples=0)) == 0
    assert float(mask_loss(torch.zeros(0, 28, 28), torch.zeros(0, 28, 28))) == 0


def test_regression_divides_by_all_samples():
    loss = regression_loss(torch.ones(2, 4), torch.zeros(2, 4), num_samples=16)
    assert float(loss) == pytest.approx(8 / 16)


def test_soft_mask_targets_are_learned_at_their_own_value():
    logits = torch.zeros(1, 2, 2, requires_grad=True)
    targets = torch.full((1, 2, 2), 0.25)
    mask_loss(logits, targets).backward()
    torch.testing.assert_close(logits.grad, torch.full((1, 2, 2), (0.5 - 0.25) / 4))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"loss_weights": LossWeights(rpn=1, box=10, mask=100, semantic=1000)},
            {"rpn_objectness": 1, "rpn_box": 1, "box_class": 10, "box_regression": 10}
            | {"mask": 100, "semantic": 1000},
        ),
        (
            {
                "ibpp": IBPPOptions(num_iterations=3),
                "roi": RoIOptions(cascade=True),
                "semantic": SemanticOptions(channels=256),
            },
            {"rpn_objectness": 1, "rpn_box": 1}
            | {f"box_class_{t}": w for t, w in ((1, 1), (2, 0.5), (3, 0.25))}
            | {f"box_regression_{t}": w for t, w in ((1, 1), (2, 0.5), (3, 0.25))}
            | {f"mask_{t}": w for t, w in ((1, 1), (2, 0.5), (3, 0.25))}
            | {"semantic_0": 0.125, "semantic_1": 0.125, "semantic_2": 0.125, "semantic_3": 0.5},
        ),
        (
            {
                "ibpp": IBPPOptions(num_iterations=1, carry="predictions"),
                "loss_weights": LossWeights(roi_stages=[3.0], semantic_iterations=[2.0, 4.0]),
            },
            {"rpn_objectness": 1, "rpn_box": 1, "box_class": 3, "box_regression": 3}
            | {"mask_1": 3, "semantic_0": 1, "semantic_1": 2},
        ),
    ],
    ids=["groups", "cascade and iterations", "own weights"],
)
def test_weights_of_the_losses(options, expected):
    weights = compute_loss_weights(ModelOptions(**options))
    assert weights == expected
    losses = {name: torch.tensor(1.0) for name in expected}
    assert float(total_loss(losses, weights)) == sum(expected.values())
