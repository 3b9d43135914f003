import pytest
import torch
import torch.nn.functional as F

from refine.losses.box import classification_loss, objectness_loss, regression_loss
from refine.losses.mask import mask_loss
from refine.losses.semantic import semantic_loss
from refine.losses.total import total_loss
from refine.options import LossWeights


def test_semantic_loss_is_cross_entropy_at_input_size_without_void():
    logits = torch.randn(2, 5, 8, 12)
    targets = torch.randint(0, 5, (2, 32, 48), dtype=torch.uint8)
    targets[0, :10] = 255
    full = F.interpolate(logits, scale_factor=4, mode="bilinear")
    expected = F.cross_entropy(full, targets.long(), ignore_index=255)
    torch.testing.assert_close(semantic_loss(logits, targets), expected)


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


def test_total_weighs_each_group():
    names = ("rpn_objectness", "rpn_box", "box_class", "box_regression", "mask", "semantic")
    losses = {name: torch.tensor(1.0) for name in names}
    weights = LossWeights(rpn=1, box=10, mask=100, semantic=1000)
    assert float(total_loss(losses, weights)) == 2 + 20 + 100 + 1000
