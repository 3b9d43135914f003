"""Targets of mask heads: the share of every cell of a RoI that a mask covers, on any device.

The area of a mask inside a rectangle is a difference of its running areas at the four corners.
Running areas of whole pixels are integers, and between pixels they are bilinear, so the shares are
exact, and a RoI costs a few reads per cell however large its mask is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from refine.ops.boxes import is_proper
from refine.ops.devices import send
from refine.ops.mask_runs import unpack_masks
from refine.types import CodedMask


@dataclass(frozen=True, slots=True, eq=False)
class RunningAreas:
    """``A(y, x)`` of each of N masks: its pixels above row y and left of column x of its crop.

    One empty mask follows them, for RoIs that belong to none.

    Attributes:
        values: int32 ``[sum (w + 1) (h + 1)]``, mask by mask, column by column as run lengths go.
        places: ``[N + 1, 5]`` int64: where the mask begins in ``values``; row and column of its
            crop in the image, height and width.
    """

    values: Tensor
    places: Tensor


def sum_areas(masks: Sequence[CodedMask], device: torch.device) -> RunningAreas:
    """Running areas of masks, on a device; the host does not wait for it, nor unpack any pixel."""
    sizes = np.array([(coded.height, coded.width) for coded in masks] + [(0, 0)])
    counts = sizes.prod(axis=1)
    begins = np.cumsum(counts) - counts
    places = np.zeros((len(sizes), 5), np.int64)
    places[:, 1:3] = [(coded.y, coded.x) for coded in masks] + [(0, 0)]
    places[:, 3:] = sizes
    places[1:, 0] = np.cumsum((sizes[:-1] + 1).prod(axis=1))
    # a mask's pixels turn on and off at the ends of its runs; in the end all are off
    filled = np.flatnonzero(counts).tolist()
    runs = unpack_masks([masks[k] for k in filled])
    shift = np.repeat(begins[filled], np.diff(runs.offsets))
    turns = np.stack([runs.starts + shift, runs.stops + shift], axis=1).ravel()
    ends = send(torch.from_numpy(turns), device)
    signs = torch.ones_like(ends, dtype=torch.int8)
    signs[1::2] = -1
    changes = torch.zeros(int(counts.sum()) + 1, dtype=torch.int8, device=device)
    pixels = changes.index_add_(0, ends, signs).cumsum(0, dtype=torch.int8)[:-1]
    values = []
    for part, size in zip(torch.split(pixels, counts.tolist()), sizes.tolist(), strict=True):
        areas = part.view(size[::-1]).cumsum(0, dtype=torch.int32).cumsum(1, dtype=torch.int32)
        values.append(F.pad(areas, (1, 0, 1, 0)).flatten())
    return RunningAreas(torch.cat(values), send(torch.from_numpy(places), device))


def roi_mask_targets(areas: RunningAreas, chosen: Tensor, boxes: Tensor, side: int) -> Tensor:
    """The exact share of every cell of a grid on each box that its mask covers.

    Args:
        areas: Masks.
        chosen: ``[P]`` int64 position of the mask of each box; N for none.
        boxes: ``[P, 4]`` xyxy in the masks' pixels.
        side: Cells along each side of the grid.

    Returns:
        ``[P, side, side]`` float32 in [0, 1]; zero for a box without area or with corners that are
        not finite.
    """
    # areas of a million pixels less each other: float32 would be good to a tenth; MPS has no other
    exact = torch.float32 if boxes.device.type == "mps" else torch.float64
    proper = is_proper(boxes)
    corners = torch.where(proper[:, None], boxes, 0).to(exact)
    begin, top, left, height, width = areas.places[chosen].unbind(dim=1)
    rows, row_shares = _find_knots(corners[:, 1::2], top, height, side)
    columns, column_shares = _find_knots(corners[:, ::2], left, width, side)
    column_begins = begin[:, None, None] + columns * (height + 1)[:, None, None]
    # [P, side + 1, side + 1, 2, 2]: the two rows of a knot, then its two columns
    corner_areas = areas.values[rows[:, :, None, :, None] + column_begins[:, None, :, None, :]]
    sums = torch.einsum("prcij,pri,pcj->prc", corner_areas.to(exact), row_shares, column_shares)
    cells = (corners[:, 2:] - corners[:, :2]).prod(dim=1).clamp(min=1e-30) / side**2
    shares = sums.diff(dim=1).diff(dim=2) / cells[:, None, None]
    return torch.where(proper[:, None, None], shares, 0).clamp(0, 1).float()


def _find_knots(spans: Tensor, start: Tensor, length: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Both whole positions around each edge of the cells in a crop, and the share of each.

    The spans are ``[P, 2]``; the results are ``[P, side + 1, 2]``.
    """
    steps = torch.arange(side + 1, device=spans.device) / side
    edges = torch.lerp(spans[:, :1], spans[:, 1:], steps.to(spans.dtype))
    edges = (edges - start[:, None]).clamp(min=0).minimum(length[:, None].to(edges.dtype))
    first = edges.floor()
    after = edges - first
    knots = torch.stack([first, first + 1], dim=2).long().minimum(length[:, None, None])
    return knots, torch.stack([1 - after, after], dim=2)
