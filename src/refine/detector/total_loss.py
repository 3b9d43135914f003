"""The only place where losses are weighed against each other."""

from collections.abc import Mapping

import torch
from torch import Tensor

from refine.options import ModelOptions


def compute_loss_weights(options: ModelOptions) -> dict[str, float]:
    """The weight of every loss that a network of these options returns.

    L = L_rpn + sum_t a_t (L_box^t + L_mask^t) + lambda_sem sum_t b_t L_sem^t, where a and b are
    ``roi_stages`` and ``semantic_iterations``.

    Returns:
        Weight by name, see :meth:`refine.detector.refine_net.RefineNet.loss`.
    """
    weights = options.loss_weights
    stages, iterations = options.num_box_stages, options.ibpp.num_iterations
    of_stage = weights.roi_stages or [0.5**k for k in range(max(stages, iterations))]
    of_semantic = weights.semantic_iterations or [1 / (iterations + 1)] * iterations + [1.0]
    result = {"rpn_objectness": weights.rpn, "rpn_box": weights.rpn}
    for k in range(stages):
        for kind in ("box_class", "box_regression"):
            result[name_of(kind, k + 1, is_numbered=stages > 1)] = weights.box * of_stage[k]
    for t in range(1, max(iterations, 1) + 1):
        result[name_of("mask", t, is_numbered=iterations > 0)] = weights.mask * of_stage[t - 1]
    for t, weight in enumerate(of_semantic):
        result[name_of("semantic", t, is_numbered=iterations > 0)] = weights.semantic * weight
    return result


def name_of(kind: str, number: int, *, is_numbered: bool) -> str:
    """Name of a loss: its kind, and its stage or iteration where there are several."""
    return f"{kind}_{number}" if is_numbered else kind


def total_loss(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Weighted sum of named losses.

    Args:
        losses: Scalars by name.
        weights: Of :func:`compute_loss_weights`; has every name.

    Returns:
        A scalar.
    """
    return torch.stack([weights[name] * value for name, value in losses.items()]).sum()
