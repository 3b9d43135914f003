"""The only place where losses are weighed against each other."""

from collections.abc import Mapping

import torch
from torch import Tensor

from refine.options import LossWeights

_GROUP = {
    "rpn_objectness": "rpn",
    "rpn_box": "rpn",
    "box_class": "box",
    "box_regression": "box",
    "mask": "mask",
    "semantic": "semantic",
}


def total_loss(losses: Mapping[str, Tensor], weights: LossWeights) -> Tensor:
    """Weighted sum of named losses.

    Args:
        losses: Scalars by name: ``rpn_objectness``, ``rpn_box``, ``box_class``,
            ``box_regression``, ``mask``, ``semantic``.
        weights: Weight of each group.

    Returns:
        A scalar.
    """
    weighted = [getattr(weights, _GROUP[name]) * value for name, value in losses.items()]
    return torch.stack(weighted).sum()
