"""Losses of the proposal network and of a box head."""

import torch.nn.functional as F
from torch import Tensor


def objectness_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy over sampled anchors.

    Args:
        logits: ``[M]``.
        labels: ``[M]``, 1 positive, 0 negative.

    Returns:
        A scalar, 0 without samples.
    """
    total = F.binary_cross_entropy_with_logits(
        logits.float(), labels.to(logits.device).float(), reduction="sum"
    )
    return total / max(len(labels), 1)


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over sampled RoIs.

    Args:
        logits: ``[M, 1 + num_things]``.
        labels: ``[M]`` int64 detector labels, 0 background.

    Returns:
        A scalar, 0 without samples.
    """
    return F.cross_entropy(logits.float(), labels, reduction="sum") / max(len(labels), 1)


def regression_loss(deltas: Tensor, targets: Tensor, *, num_samples: int) -> Tensor:
    """L1 over positive boxes, divided by *all* samples (detectron2).

    Dividing by all samples makes every positive weigh the same, however few there are.

    Args:
        deltas: ``[P, 4]`` predicted codes of the positives.
        targets: ``[P, 4]`` codes of their matched boxes.
        num_samples: Positives and negatives together.

    Returns:
        A scalar, 0 without positives.
    """
    return F.l1_loss(deltas.float(), targets, reduction="sum") / max(num_samples, 1)
