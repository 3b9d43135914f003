"""Boxes: xyxy in continuous pixels."""

import torch
from torch import Tensor


def sample_labels(
    labels: Tensor, *, num_samples: int, positive_fraction: float, generator: torch.Generator
) -> Tensor:
    """Draw a subset with at most a given share of positives.

    Args:
        labels: ``[N]``; above 0 positive, 0 negative, below 0 never drawn.
        num_samples: Size of the subset; smaller if there are too few.
        positive_fraction: At most this share of ``num_samples`` is positive.
        generator: Of the CPU, so that the draw is the same on every device.

    Returns:
        Indices ``[M]`` int64, positives first.
    """
    positives = torch.nonzero(labels > 0)[:, 0]
    negatives = torch.nonzero(labels == 0)[:, 0]
    num_positives = min(len(positives), int(num_samples * positive_fraction))
    num_negatives = min(len(negatives), num_samples - num_positives)
    return torch.cat(
        [
            _draw(positives, num_positives, generator),
            _draw(negatives, num_negatives, generator),
        ]
    )


def _draw(indices: Tensor, count: int, generator: torch.Generator) -> Tensor:
    order = torch.randperm(len(indices), generator=generator)[:count]
    return indices[order.to(indices.device)]


def is_proper(boxes: Tensor) -> Tensor:
    """``[N]`` bool: the box has an area and finite corners."""
    finite = torch.isfinite(boxes).all(dim=1)
    return finite & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
