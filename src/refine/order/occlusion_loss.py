"""Loss of the occlusion networks."""

import torch
import torch.nn.functional as F
from torch import Tensor


def order_pairs(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Both orders of every pair, and what each is to be answered.

    Args:
        pairs: ``[K, 2]`` int64: the first lies on top of the second.

    Returns:
        ``[2 K, 2]`` pairs and their ``[2 K]`` float32 truths: 1 as given, 0 the other way round.
    """
    truth = torch.ones(2 * len(pairs), device=pairs.device)
    truth[len(pairs) :] = 0
    return torch.cat([pairs, pairs.flip(1)]), truth


def occlusion_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean binary cross-entropy; without pairs a zero that keeps the graph of the logits.

    Args:
        logits: ``[K]``.
        truth: ``[K]`` in {0, 1}.
    """
    if not len(logits):
        return logits.sum()
    return F.binary_cross_entropy_with_logits(logits.float(), truth)
