"""The ranking network: OANet's spatial ranking module (Liu et al. 2019), a rival of the paper's.

Where masks of several categories overlap, which category is visible? The network reads one binary
map per category, the union of its masks, and predicts a distribution over categories at every cell.
The ranking score of an instance is the mean probability of its own category over its contested
cells. Two instances of one category share a map, so it cannot order them.

OANet's code was never published; layers and training are those of the REFINE authors' earlier code.
There the maps have the size of the network's input. Here they have stride 4, because 80 float maps
of 800 x 1333 pixels take 341 MB per image, and so does the output of each of the two convolutions;
at stride 4 it is 21 MB. The same kernel then sees four times as far.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refine.ops.outlines import decode_mask
from refine.ops.roi_flatten import flatten_rois
from refine.options import RankingOptions
from refine.types import STRIDE, CodedMask, TrainingTarget


class RankingHead(nn.Module):
    """Category maps to logits of the visible category: a row of weights, then a column."""

    def __init__(self, num_things: int, *, options: RankingOptions) -> None:
        super().__init__()
        self.options = options
        self.num_things = num_things
        side = options.kernel_size
        self.across = nn.Conv2d(num_things, num_things, (1, side), padding=(0, side // 2))
        self.down = nn.Conv2d(num_things, num_things, (side, 1), padding=(side // 2, 0))
        for layer in (self.across, self.down):
            nn.init.xavier_normal_(layer.weight)  # no activation follows
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, maps: Tensor) -> Tensor:
        """``[B, num_things, h, w]`` bool category maps to logits of the same shape."""
        return self.down(self.across(maps.to(self.across.weight.dtype)))  # type: ignore[no-any-return]

    def rank(
        self, masks: Tensor, boxes: Tensor, labels: Tensor, *, size: tuple[int, int]
    ) -> Tensor:
        """``[N]`` ranking scores of one image's detections, as :func:`rank_instances`.

        Args:
            masks: ``[N, m, m]`` mask probabilities inside the boxes.
            boxes: ``[N, 4]`` xyxy network pixels.
            labels: ``[N]`` int64 thing categories.
            size: ``(h, w)`` cells of the padded image.
        """
        cells = paste_on_cells(masks, boxes, size=size)
        maps = category_maps(cells, labels, num_things=self.num_things)
        return rank_instances(self(maps[None])[0], cells, labels)


def paste_on_cells(masks: Tensor, boxes: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Cells whose centre a mask covers with a probability of 1/2 or more, ``[N, h, w]`` bool."""
    count, planes = len(masks), torch.arange(len(masks), device=masks.device)
    values = masks.detach()
    return flatten_rois(values, boxes, planes, num_planes=count, size=size, stride=STRIDE) >= 0.5


def category_maps(cells: Tensor, labels: Tensor, *, num_things: int) -> Tensor:
    """``[num_things, h, w]`` bool union of the masks ``[N, h, w]`` of each category."""
    counts = cells.new_zeros((num_things, *cells.shape[1:]), dtype=torch.int32)
    return counts.index_add_(0, labels, cells.int()) > 0


def rank_instances(logits: Tensor, cells: Tensor, labels: Tensor) -> Tensor:
    """Mean probability of each instance's category over its contested cells, or 0 without any.

    A cell is contested if masks of two or more categories cover it.

    Args:
        logits: ``[num_things, h, w]`` of one image.
        cells: ``[N, h, w]`` bool masks.
        labels: ``[N]`` int64 thing categories; the result is ``[N]`` float32 in [0, 1].
    """
    contested = category_maps(cells, labels, num_things=len(logits)).sum(dim=0) >= 2
    probabilities = logits[:, contested].float().softmax(dim=0)  # [num_things, M]
    inside = cells[:, contested]  # [N, M]
    sums = (probabilities[labels] * inside).sum(dim=1)
    return sums / inside.sum(dim=1).clamp(min=1)


def ranking_loss(logits: Tensor, maps: Tensor, semantic: Tensor) -> Tensor:
    """Mean cross-entropy against the visible thing category, over contested cells only.

    A cell counts if outlines of two or more thing categories cover it and a thing is visible there:
    elsewhere there is nothing to decide. The visible category is that of the pixel below and right
    of the cell's centre, which is a corner of four pixels. Without a cell that counts the loss is
    0, and still part of the logits' graph.

    Args:
        logits: ``[B, num_things, h, w]``.
        maps: ``[B, num_things, h, w]`` bool (:func:`compute_category_maps`).
        semantic: ``[B, 4 h, 4 w]`` uint8 categories, things first; 255 is void.
    """
    centre = slice(STRIDE // 2, None, STRIDE)
    visible = semantic[:, centre, centre].long()
    counts = (maps.sum(dim=1) >= 2) & (visible < logits.shape[1])
    chosen = logits.permute(0, 2, 3, 1)[counts].float()  # [M, num_things]
    total = F.cross_entropy(chosen, visible[counts], reduction="sum")
    return total / max(len(chosen), 1)


def compute_category_maps(targets: Sequence[TrainingTarget], *, num_things: int) -> Tensor:
    """``[B, num_things, H / 4, W / 4]`` bool category maps of true outlines, of padded images."""
    maps = []
    for target in targets:
        height, width = target.semantic.shape
        cells = outlines_on_cells(target.masks, (height // STRIDE, width // STRIDE))
        on_device = torch.from_numpy(cells).to(target.labels.device)
        maps.append(category_maps(on_device, target.labels, num_things=num_things))
    return torch.stack(maps)


def outlines_on_cells(masks: Sequence[CodedMask], size: tuple[int, int]) -> np.ndarray:
    """Cells ``[N, h, w]`` bool of which an outline in network pixels covers more than half.

    More than half, so that outlines without a common pixel never meet in a cell: a contested cell
    is a real overlap. An outline thinner than a few pixels may have no cell.
    """
    cells = np.zeros((len(masks), *size), bool)
    for target, coded in zip(cells, masks, strict=True):
        crop = decode_mask(coded)
        (top, before), (left, ahead) = divmod(crop.y, STRIDE), divmod(crop.x, STRIDE)
        after, behind = -(before + coded.height) % STRIDE, -(ahead + coded.width) % STRIDE
        padded = np.pad(crop.mask, ((before, after), (ahead, behind)))
        rows, columns = (side // STRIDE for side in padded.shape)
        pixels = padded.reshape(rows, STRIDE, columns, STRIDE).sum(axis=(1, 3))
        target[top : top + rows, left : left + columns] = pixels > STRIDE**2 // 2
    return cells
