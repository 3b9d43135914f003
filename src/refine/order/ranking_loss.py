"""Loss of the ranking network."""

import torch.nn.functional as F
from torch import Tensor

from refine.types import STRIDE


def ranking_loss(logits: Tensor, maps: Tensor, semantic: Tensor) -> Tensor:
    """Mean cross-entropy against the visible thing category, on contested cells only.

    A cell counts if outlines of two or more thing categories cover it and a thing is seen there:
    elsewhere there is nothing to decide. What is seen is the pixel right below the cell's centre,
    which is a corner of four pixels.

    Args:
        logits: ``[B, num_things, h, w]``.
        maps: ``[B, num_things, h, w]`` bool: the union of the outlines of each category.
        semantic: ``[B, 4 h, 4 w]`` uint8 categories, things first; 255 is void.

    Returns:
        A scalar; 0, and still part of the logits' graph, without a cell that counts.
    """
    centre = slice(STRIDE // 2, None, STRIDE)
    visible = semantic[:, centre, centre].long()
    counts = (maps.sum(dim=1) >= 2) & (visible < logits.shape[1])
    chosen = logits.permute(0, 2, 3, 1)[counts].float()  # [M, num_things]
    total = F.cross_entropy(chosen, visible[counts], reduction="sum")
    return total / max(len(chosen), 1)
