"""Loss of a mask head."""

import torch.nn.functional as F
from torch import Tensor


def mask_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy over the masks of the positive RoIs.

    Targets may be soft: the covered share of each cell. Thresholding a predicted share at one half
    puts the contour inside the cell, which binary targets cannot say.

    Args:
        logits: ``[P, m, m]``.
        targets: ``[P, m, m]`` in [0, 1].

    Returns:
        A scalar, 0 without positives.
    """
    total = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum")
    return total / max(targets.numel(), 1)
