"""What the ranking network reads in training: true outlines on the cells of stride 4."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from refine.ops.outlines import decode_mask
from refine.order.ranking_network import category_maps
from refine.types import STRIDE, CodedMask, TrainingTarget


def compute_category_maps(targets: Sequence[TrainingTarget], *, num_things: int) -> Tensor:
    """The category maps of a batch, of its full outlines.

    Args:
        targets: Of the images, padded to one size that is a multiple of 4.
        num_things: Thing categories.

    Returns:
        ``[B, num_things, H / 4, W / 4]`` bool, on the targets' device.
    """
    maps = []
    for target in targets:
        height, width = target.semantic.shape
        cells = outlines_on_cells(target.masks, (height // STRIDE, width // STRIDE))
        on_device = torch.from_numpy(cells).to(target.labels.device)
        maps.append(category_maps(on_device, target.labels, num_things=num_things))
    return torch.stack(maps)


def outlines_on_cells(masks: Sequence[CodedMask], size: tuple[int, int]) -> np.ndarray:
    """The cells of which an outline covers more than half.

    More than half, so that outlines without a common pixel never meet in a cell: a contested cell
    is a real overlap. An outline thinner than a few pixels may be left without cells; it is then
    not part of the maps.

    Args:
        masks: N outlines in network pixels.
        size: ``(h, w)`` cells; every outline lies inside.

    Returns:
        ``[N, h, w]`` bool.
    """
    cells = np.zeros((len(masks), *size), bool)
    for target, coded in zip(cells, masks, strict=True):
        crop = decode_mask(coded)
        (top, before), (left, ahead) = divmod(crop.y, STRIDE), divmod(crop.x, STRIDE)
        rows, columns = (
            -(-(offset + length) // STRIDE)
            for offset, length in zip((before, ahead), crop.mask.shape, strict=True)
        )
        padded = np.zeros((rows * STRIDE, columns * STRIDE), bool)
        padded[before : before + coded.height, ahead : ahead + coded.width] = crop.mask
        pixels = padded.reshape(rows, STRIDE, columns, STRIDE).sum(axis=(1, 3))
        target[top : top + rows, left : left + columns] = pixels > STRIDE**2 // 2
    return cells
