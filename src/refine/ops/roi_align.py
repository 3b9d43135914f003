"""RoIAlign over a feature pyramid, in the half-pixel convention of detectron2.

torchvision's ``MultiScaleRoIAlign`` always pools with ``aligned=False``.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torchvision.ops import roi_align

from refine.ops.boxes import images_of_rows
from refine.ops.conversion import is_poolable, make_poolable, place_rows
from refine.ops.row_pooling import pool_rows


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

    Our kernels on a GPU (:func:`is_poolable`) take the features as they are. For torchvision's the
    host waits once for the device, if there are several levels: it has to know how many boxes each
    level has.

    Args:
        features: ``[B, C, h, w]`` of each level, finest first (:func:`make_poolable`).
        boxes: B tensors ``[N_b, 4]`` xyxy network pixels.
        strides: Network pixels per cell of each level; powers of two.
        side: Side of the result.
        canonical_size_px: See :func:`assign_levels`; not read with one level.
        sampling_ratio: Samples per bin and axis; 0 adapts to the box.

    Returns:
        ``[sum N_b, C, side, side]``, image by image: float32, channels last in memory on the CPU;
        by our kernels of the type of the features, channels last.
    """
    flat = torch.cat(list(boxes))
    image = images_of_rows([len(b) for b in boxes], flat.device)
    levels, numbers = None, [int(math.log2(stride)) for stride in strides]
    if len(features) > 1:
        levels = assign_levels(
            flat, canonical_size_px=canonical_size_px, min_level=numbers[0], max_level=numbers[-1]
        )
    if all(is_poolable(feature) for feature in features):
        from refine.ops.roi_kernels import pool_levels  # compiled for a GPU at the first call

        index = torch.zeros_like(image) if levels is None else levels - numbers[0]
        return pool_levels(features, flat, image, index, strides, side, sampling_ratio)
    rois, counts = torch.cat([image[:, None], flat], dim=1).float(), [len(flat)]
    if levels is not None:
        every = torch.arange(numbers[0], numbers[-1] + 1, device=flat.device)
        counts = (levels == every[:, None]).sum(dim=1).tolist()
    order = _order(flat, levels)
    if order is not None:
        rois = rois[order]
    pool = pool_rows if flat.is_cpu else partial(roi_align, aligned=True)
    with torch.autocast(flat.device.type, enabled=False):
        parts = [
            pool(
                make_poolable(feature),
                of_level,
                side,
                spatial_scale=1.0 / stride,
                sampling_ratio=sampling_ratio,
            )
            for feature, stride, of_level in zip(
                features, strides, torch.split(rois, counts), strict=True
            )
        ]
    pooled = torch.cat(parts) if len(parts) > 1 else parts[0]
    return pooled if order is None else place_rows(pooled, order)


def _order(boxes: Tensor, levels: Tensor | None) -> Tensor | None:
    """``[N]`` int64, by level; on the CPU by size, too, as :func:`pool_rows` wants it."""
    if not boxes.is_cpu:
        return None if levels is None else levels.argsort(stable=True)
    order = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).argsort()
    return order if levels is None else order[levels[order].argsort(stable=True)]
