"""Losses of the detector, their names, and how they are weighed against each other."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from refine.ops.upsampled_loss import sum_cross_entropy
from refine.options import ModelOptions
from refine.types import IGNORE_INDEX


def objectness_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy over sampled anchors ``[M]`` (label 1 or 0); 0 without samples."""
    return mask_loss(logits, labels.float())


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of ``[M, 1 + num_things]`` logits over sampled RoIs; 0 without samples.

    The labels ``[M]`` int64 are 0 for background, thing category + 1 otherwise.
    """
    return F.cross_entropy(logits.float(), labels, reduction="sum") / max(len(labels), 1)


def regression_loss(deltas: Tensor, targets: Tensor, *, num_samples: int) -> Tensor:
    """L1 over positive boxes, divided by *all* samples (detectron2); 0 without positives.

    That gives every positive the same weight, however few there are. Both codes are ``[P, 4]``.
    """
    return F.l1_loss(deltas.float(), targets, reduction="sum") / max(num_samples, 1)


def mask_loss(logits: Tensor, targets: Tensor, counts: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy over the masks of the positive RoIs; 0 without positives.

    Targets may be soft: the covered share of each cell. Thresholding a predicted share at one half
    puts the contour inside the cell, which binary targets cannot express.

    Args:
        logits: ``[P, m, m]``.
        targets: Shares in [0, 1], of the same shape.
        counts: ``[P]`` bool: RoIs whose masks count; None: all.
    """
    logits = logits.float()
    if counts is None:
        total = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
        return total / max(targets.numel(), 1)
    weights = counts[:, None, None].float().expand_as(targets)
    total = F.binary_cross_entropy_with_logits(logits, targets, weights, reduction="sum")
    return total / weights.sum().clamp(min=1)


def semantic_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy at the input's size (detectron2: logits upsampled x4, in float32).

    The upsampled logits would be the largest tensor of a training step, and IBPP has T + 1 such
    losses: see :mod:`refine.ops.upsampled_loss`.

    Args:
        logits: ``[B, C, h, w]`` at stride 4.
        targets: ``[B, 4 h, 4 w]`` uint8 categories, 255 is ignored; 0 if every pixel is.
    """
    num_pixels = (targets != IGNORE_INDEX).sum().clamp(min=1)
    return sum_cross_entropy(logits, targets) / num_pixels


def name_of(kind: str, number: int, *, is_numbered: bool) -> str:
    """Name of a loss: its kind, and its stage or iteration where there are several."""
    return f"{kind}_{number}" if is_numbered else kind


def compute_loss_weights(options: ModelOptions) -> dict[str, float]:
    """Weight of every loss that a network of these options returns, by name.

    L = L_rpn + sum_t a_t (L_box^t + L_mask^t) + lambda_sem sum_t b_t L_sem^t, where a and b are
    ``roi_stages`` and ``semantic_iterations``.
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


def total_loss(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum of named scalars, each with its weight (:func:`compute_loss_weights`)."""
    return torch.stack([weights[name] * value for name, value in losses.items()]).sum()
