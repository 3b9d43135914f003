"""RoIAlign over a feature pyramid, in the half-pixel convention of detectron2.

torchvision's ``MultiScaleRoIAlign`` always pools with ``aligned=False``.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align


def assign_levels(
    boxes: Tensor, *, canonical_size_px: float, min_level: int, max_level: int
) -> Tensor:
    """``[N]`` int64 pyramid level (2 for P2) of each xyxy box (FPN, Lin et al. 2017, eq. 1).

    A box of size (root of its area) ``canonical_size_px`` is pooled from level 4.
    """
    sizes = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0).sqrt()
    # the epsilon keeps a box of exactly canonical size on its level, as detectron2 does
    levels = torch.floor(4 + torch.log2(sizes / canonical_size_px + 1e-8))
    return levels.clamp(min_level, max_level).to(torch.int64)


def pool_rois(
    features: Sequence[Tensor],
    boxes: Sequence[Tensor],
    *,
    strides: Sequence[int],
    side: int,
    canonical_size_px: float,
    sampling_ratio: int,
) -> Tensor:
    """RoI features from the level that fits each box.

    Args:
        features: ``[B, C, h, w]`` of each level, finest first; pooled in float32 under autocast,
            as there is no bf16 kernel on CPUs.
        boxes: B tensors ``[N_b, 4]`` xyxy network pixels.
        strides: Network pixels per cell of each level; powers of two.
        side: Side of the result.
        canonical_size_px: See :func:`assign_levels`.
        sampling_ratio: Samples per bin and axis; 0 adapts to the box.

    Returns:
        ``[sum N_b, C, side, side]`` float32, image by image.
    """
    flat = torch.cat(list(boxes))
    image_index = torch.cat([b.new_full((len(b), 1), k) for k, b in enumerate(boxes)])
    rois = torch.cat([image_index, flat], dim=1).float()
    numbers = [int(math.log2(stride)) for stride in strides]
    levels = assign_levels(
        flat, canonical_size_px=canonical_size_px, min_level=numbers[0], max_level=numbers[-1]
    )
    pooled = features[0].new_zeros((len(rois), features[0].shape[1], side, side)).float()
    with torch.autocast(flat.device.type, enabled=False):
        for feature, stride, number in zip(features, strides, numbers, strict=True):
            chosen = torch.nonzero(levels == number)[:, 0]
            if not len(chosen):
                continue
            crops = roi_align(
                feature.float().contiguous(),  # the kernel wants NCHW
                rois[chosen],
                side,
                spatial_scale=1.0 / stride,
                sampling_ratio=sampling_ratio,
                aligned=True,
            )
            pooled = pooled.index_put((chosen,), crops)
    return pooled
