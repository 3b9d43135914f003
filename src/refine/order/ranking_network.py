"""The ranking network: OANet's spatial ranking module (Liu et al. 2019), a rival of the paper's.

Where masks of several categories overlap, which of them is seen? The network reads one binary map
a category, the union of its masks, and answers by a distribution over categories at every cell. An
instance's score is the mean answer for its own category on its contested cells; two instances of
one category share a map, so it cannot order them.

OANet's code was never published; layers and training are those of the REFINE authors' earlier
code. There the maps have the size of the network's input. Here they have its stride 4: 80 float
maps of 800 x 1333 pixels take 341 MB an image, and the output of each of the two convolutions as
much again; at stride 4 it is 21 MB. In boxes wider than 28 x 4 pixels a mask of 28 x 28 knows no
finer detail anyway, and the same kernel sees four times as far.
"""

import torch
from torch import Tensor, nn

from refine.ops.roi_flatten import flatten_rois
from refine.options import RankingOptions


class RankingHead(nn.Module):
    """Category maps to logits of the visible category: a row of weights, then a column.

    Args:
        num_things: Thing categories.
        options: Its size.
    """

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
        """Logits of the category that is seen at each cell.

        Args:
            maps: ``[B, num_things, h, w]`` bool (:func:`category_maps`).

        Returns:
            ``[B, num_things, h, w]``.
        """
        return self.down(self.across(maps.to(self.across.weight.dtype)))  # type: ignore[no-any-return]

    def rank(
        self, masks: Tensor, boxes: Tensor, labels: Tensor, *, size: tuple[int, int]
    ) -> Tensor:
        """Ranking scores of the detections of one image, from their masks alone.

        Args:
            masks: ``[N, m, m]`` probabilities of each detection's mask in its box.
            boxes: ``[N, 4]`` xyxy network pixels.
            labels: ``[N]`` int64 thing categories.
            size: ``(h, w)`` cells of the padded image.

        Returns:
            ``[N]`` float32 in [0, 1], see :func:`rank_instances`.
        """
        cells = paste_on_cells(masks, boxes, size=size)
        maps = category_maps(cells, labels, num_things=self.num_things)
        return rank_instances(self(maps[None])[0], cells, labels)


def paste_on_cells(masks: Tensor, boxes: Tensor, *, size: tuple[int, int]) -> Tensor:
    """The cells whose centre a mask covers with a probability of 1/2 or more.

    Args:
        masks: ``[N, m, m]`` probabilities.
        boxes: ``[N, 4]`` xyxy network pixels.
        size: ``(h, w)`` cells.

    Returns:
        ``[N, h, w]`` bool.
    """
    planes = torch.arange(len(masks), device=masks.device)
    drawn = flatten_rois(masks.detach(), boxes, planes, num_planes=len(masks), size=size)
    return drawn >= 0.5


def category_maps(cells: Tensor, labels: Tensor, *, num_things: int) -> Tensor:
    """The union of the masks of each category.

    Args:
        cells: ``[N, h, w]`` bool.
        labels: ``[N]`` int64 thing categories.
        num_things: Thing categories.

    Returns:
        ``[num_things, h, w]`` bool.
    """
    counts = torch.zeros(
        (num_things, *cells.shape[1:]), dtype=torch.int32, device=cells.device
    ).index_add_(0, labels, cells.int())
    return counts > 0


def rank_instances(logits: Tensor, cells: Tensor, labels: Tensor) -> Tensor:
    """The mean probability of each instance's category over its contested cells.

    A cell is contested if masks of two or more categories cover it.

    Args:
        logits: ``[num_things, h, w]`` of one image.
        cells: ``[N, h, w]`` bool.
        labels: ``[N]`` int64 thing categories.

    Returns:
        ``[N]`` float32 in [0, 1]; 0 for an instance without contested cells.
    """
    contested = category_maps(cells, labels, num_things=len(logits)).sum(dim=0) >= 2
    probabilities = logits[:, contested].float().softmax(dim=0)  # [num_things, M]
    inside = cells[:, contested]  # [N, M]
    sums = (probabilities[labels] * inside).sum(dim=1)
    return sums / inside.sum(dim=1).clamp(min=1)
