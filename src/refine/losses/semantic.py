"""Loss of a semantic head."""

import torch
import torch.nn.functional as F
from torch import Tensor

from refine.types import IGNORE_INDEX


def semantic_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy at the input's size (detectron2: logits upsampled x4, in float32).

    The upsampled logits are the largest tensor of a training step (133 categories at 800x1333:
    567 MB an image), so they live only inside this function.

    Args:
        logits: ``[B, C, h, w]`` at stride 4.
        targets: ``[B, 4 h, 4 w]`` uint8 categories, 255 is ignored.

    Returns:
        A scalar, 0 if every pixel is ignored.
    """
    # categories last in memory: softmax then runs over neighbours, in half the time on a CPU
    logits = logits.float().contiguous(memory_format=torch.channels_last)
    full = F.interpolate(logits, size=targets.shape[-2:], mode="bilinear", align_corners=False)
    pixels = full.permute(0, 2, 3, 1).flatten(0, 2)  # [B 4h 4w, C], a view
    labels = targets.long().flatten()
    total = F.cross_entropy(pixels, labels, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (targets != IGNORE_INDEX).sum().clamp(min=1)
