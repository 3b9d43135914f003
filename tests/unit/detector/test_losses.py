import weakref

import pytest
import torch
import torch.nn.functional as F

from refine.detector import losses
from refine.options import IBPPOptions, LossWeights, ModelOptions, RoIOptions

RPN, BOX = {"rpn_objectness": 1, "rpn_box": 1}, ("box_class", "box_regression")


@pytest.mark.parametrize("num_categories", [5, 40])  # both memory formats
def test_semantic_loss_is_cross_entropy_at_input_size_without_void(num_categories):
    logits = torch.randn(2, num_categories, 8, 12, requires_grad=True)
    targets = torch.randint(0, num_categories, (2, 32, 48), dtype=torch.uint8)
    targets[0, :10] = 255
    full = F.interpolate(logits, scale_factor=4, mode="bilinear")
    expected = F.cross_entropy(full, targets.long(), ignore_index=255)
    loss = losses.semantic_loss(logits, targets)
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(3 * loss, logits)
    (expected_gradient,) = torch.autograd.grad(3 * expected, logits)
    torch.testing.assert_close(gradient, expected_gradient)
    with torch.no_grad():
        torch.testing.assert_close(losses.semantic_loss(logits, targets), expected)


def test_semantic_loss_keeps_only_the_small_logits_for_the_backward_pass():
    """T + 1 heads must not hold T + 1 maps of full size at once."""
    logits = torch.randn(2, 40, 16, 24, requires_grad=True)
    targets = torch.randint(0, 40, (2, 64, 96), dtype=torch.uint8)
    saved = []

    def pack(tensor):
        saved.append(weakref.ref(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = losses.semantic_loss(logits, targets)
    assert loss.requires_grad
    assert max(t.numel() for ref in saved if (t := ref()) is not None) == logits.numel()


def test_losses_of_nothing_are_zero_with_a_gradient():
    void = torch.full((1, 32, 32), 255, dtype=torch.uint8)
    logits = [torch.zeros(shape, requires_grad=True) for shape in ((0,), (0, 4), (0, 28, 28))]
    semantic = torch.randn(1, 5, 8, 8, requires_grad=True)
    for loss, of in (
        (losses.objectness_loss(logits[0], torch.zeros(0, dtype=torch.bool)), logits[0]),
        (losses.classification_loss(logits[1], torch.zeros(0, dtype=torch.int64)), logits[1]),
        (losses.regression_loss(logits[1], torch.zeros(0, 4), num_samples=0), logits[1]),
        (losses.mask_loss(logits[2], torch.zeros(0, 28, 28)), logits[2]),
        (losses.semantic_loss(semantic, void), semantic),
    ):
        assert float(loss.detach()) == 0
        assert not torch.autograd.grad(loss, of)[0].any()


def test_regression_divides_by_all_samples_and_masks_are_learned_at_soft_values():
    loss = losses.regression_loss(torch.ones(2, 4), torch.zeros(2, 4), num_samples=16)
    assert float(loss) == pytest.approx(8 / 16)
    logits = torch.zeros(1, 2, 2, requires_grad=True)
    losses.mask_loss(logits, torch.full((1, 2, 2), 0.25)).backward()
    torch.testing.assert_close(logits.grad, torch.full((1, 2, 2), (0.5 - 0.25) / 4))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"loss_weights": LossWeights(rpn=1, box=10, mask=100, semantic=1000)},
            RPN | {"box_class": 10, "box_regression": 10, "mask": 100, "semantic": 1000},
        ),
        (
            {"ibpp": IBPPOptions(num_iterations=3, carry="predictions")}
            | {"roi": RoIOptions(cascade=True)},
            RPN
            | {f"{kind}_{t + 1}": 0.5**t for t in range(3) for kind in (*BOX, "mask")}
            | {"semantic_0": 0.125, "semantic_1": 0.125, "semantic_2": 0.125, "semantic_3": 0.5},
        ),
        (
            {
                "ibpp": IBPPOptions(num_iterations=1, carry="predictions"),
                "loss_weights": LossWeights(roi_stages=[3.0], semantic_iterations=[2.0, 4.0]),
            },
            RPN
            | {"box_class": 3, "box_regression": 3, "mask_1": 3, "semantic_0": 1, "semantic_1": 2},
        ),
    ],
)
def test_weights_of_the_losses(options, expected):
    weights = losses.compute_loss_weights(ModelOptions(**options))
    assert weights == expected
    ones = dict.fromkeys(expected, torch.tensor(1.0))
    assert losses.total_loss(ones, weights) == sum(expected.values())
