"""RoIAlign over a feature pyramid, in the half-pixel convention of detectron2.

torchvision's ``MultiScaleRoIAlign`` always pools with ``aligned=False``.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

from refine.ops.conversion import make_poolable, place_rows


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

    With one level the host does not wait for the device, else once: it has to know how many boxes
    each level has.

    Args:
        features: ``[B, C, h, w]`` of each level, finest first (:func:`make_poolable`).
        boxes: B tensors ``[N_b, 4]`` xyxy network pixels.
        strides: Network pixels per cell of each level; powers of two.
        side: Side of the result.
        canonical_size_px: See :func:`assign_levels`; not read with one level.
        sampling_ratio: Samples per bin and axis; 0 adapts to the box.

    Returns:
        ``[sum N_b, C, side, side]`` float32, image by image.
    """
    image_index = torch.cat([b.new_full((len(b), 1), k) for k, b in enumerate(boxes)])
    flat = torch.cat(list(boxes))
    rois = torch.cat([image_index, flat], dim=1).float()
    order, counts = None, [len(rois)]
    if len(features) > 1:
        numbers = [int(math.log2(stride)) for stride in strides]
        levels = assign_levels(
            flat, canonical_size_px=canonical_size_px, min_level=numbers[0], max_level=numbers[-1]
        )
        order = levels.argsort(stable=True)
        rois = rois[order]
        counts = torch.stack([(levels == number).sum() for number in numbers]).tolist()
    with torch.autocast(flat.device.type, enabled=False):
        pooled = torch.cat(
            [
                roi_align(
                    make_poolable(feature),
                    of_level,
                    side,
                    spatial_scale=1.0 / stride,
                    sampling_ratio=sampling_ratio,
                    aligned=True,
                )
                for feature, stride, of_level in zip(
                    features, strides, torch.split(rois, counts), strict=True
                )
            ]
        )
    return pooled if order is None else place_rows(pooled, order)
