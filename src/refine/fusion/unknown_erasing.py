"""Unknown Erasing (REFINE): doubtful regions of stuff become void before the merge.

1. Each pixel has its best category and that category's probability, softmax over all categories.
2. The pixels of a category that a dilation would join, however fragmented, are one region (4
   neighbours, after a square of radius ``dilation_frac`` of the network input's short side).
3. A region's score is the mean probability of its own pixels; those that only the dilation adds do
   not count.
4. Regions that score below ``score_thresh`` become void in the semantic map, before the merge.

So an isolated, confident speck goes with the doubtful region beside it. Steps 1 to 3 do not depend
on the threshold: :func:`erasable_regions` does them once, :func:`erase` is one look-up a pixel.
"""

from collections.abc import Collection, Iterator
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from refine.metrics.functional import find_segment_errors
from refine.ops.components import label_dilated
from refine.options import UnknownErasingOptions
from refine.types import IGNORE_INDEX, STRIDE, GroundTruth, PanopticPrediction

_CELL_ROWS_A_PASS = 8


class Regions(NamedTuple):
    """What Unknown Erasing may erase in one image.

    Attributes:
        labels: ``[H, W]`` unsigned, at original size: k + 1 at the pixels of region k, 0 where
            nothing can be erased.
        scores: ``[R]`` float64 mean probability of the region's category, in (0, 1].
    """

    labels: np.ndarray
    scores: np.ndarray


def erasable_regions(
    semantic_logits: Tensor,
    semantic: np.ndarray,
    *,
    image_size: tuple[int, int],
    num_things: int,
    options: UnknownErasingOptions,
) -> Regions:
    """Find and score the regions of one image.

    Regions are made of the cells of the logits (``at: stride4``; the radius is a fourth) or of
    network pixels between which the logits are interpolated (``at: input``, the reference form);
    padding is left out. An original pixel of category c belongs to the region of the nearest cell
    (network pixel) of category c, centre to centre, among the nine around its own place. If there
    is none, as at a category that wins only between cells, the pixel stays.

    Args:
        semantic_logits: ``[C, h, w]`` float at stride 4 of the padded image, finite, on any device.
        semantic: ``[H, W]`` uint8 category of every original pixel, or 255; from the same logits.
        image_size: ``(height, width)`` in network pixels, without padding.
        num_things: Number of thing categories; categories from here on are stuff.
        options: ``at``, ``dilation_frac`` and ``categories`` are read.
    """
    stride = STRIDE if options.at == "stride4" else 1
    height, width = (-(-pixels // stride) for pixels in image_size)
    logits = semantic_logits.detach()
    if stride == 1:
        strips = _upsampled_rows(logits, (height, width))
    else:
        strips = iter(torch.split(logits[:, :height, :width], _CELL_ROWS_A_PASS, dim=1))
    best, probabilities = _best_categories(strips, (height, width), logits.device)
    first = 0 if options.categories == "all" else num_things
    radius = round(options.dilation_frac * min(image_size) / stride)
    considered = np.where(best >= first, best, np.uint8(IGNORE_INDEX))
    found = score_regions(considered, probabilities, radius=radius)
    # one division, the last step: a centre on the border of two cells comes out exactly
    y, x = (
        (np.arange(pixels) + 0.5) * network / (pixels * stride)
        for pixels, network in zip(semantic.shape, image_size, strict=True)
    )
    return found._replace(labels=_transfer(found.labels, best, semantic, y=y, x=x))


def score_regions(categories: np.ndarray, probabilities: np.ndarray, *, radius: int) -> Regions:
    """Find and score the regions of ``[h, w]`` cells, uint8 and float32; 255 is in no region.

    A dilation by ``radius`` cells joins fragments.
    """
    labels, owners = label_dilated(categories, radius)
    # a best category's probability is at least 1/255: so sums of float32 values in float64 are
    # exact up to four million pixels, and the order of summation never decides about a threshold
    sums = np.bincount(labels.ravel(), probabilities.ravel(), len(owners) + 1)[1:]
    sizes = np.bincount(labels.ravel(), minlength=len(owners) + 1)[1:]
    return Regions(labels, sums / sizes)


def erase(semantic: np.ndarray, regions: Regions, score_thresh: float) -> np.ndarray:
    """The ``[H, W]`` uint8 map with 255 where regions score strictly below the threshold.

    It is a new one, or ``semantic`` itself if nothing is erased.
    """
    is_erased = np.append(False, regions.scores < score_thresh)
    if not is_erased.any():
        return semantic
    return np.where(is_erased[regions.labels], np.uint8(IGNORE_INDEX), semantic)


def erase_categories(semantic: np.ndarray, categories: Collection[int]) -> np.ndarray:
    """A copy of the ``[H, W]`` uint8 map with 255 at the pixels of these categories."""
    is_erased = np.zeros(IGNORE_INDEX + 1, bool)
    is_erased[list(categories)] = True
    return np.where(is_erased[semantic], np.uint8(IGNORE_INDEX), semantic)


def wrong_stuff(prediction: PanopticPrediction, truth: GroundTruth) -> set[int]:
    """Categories of the stuff segments that panoptic quality counts as false positives."""
    wrong, _ = find_segment_errors(prediction, truth)
    return {s.category for s in prediction.segments if not s.is_thing and s.id in wrong}


class ErasedCount(NamedTuple):
    """Stuff segments that lost more than half of their pixels, and how many of them were wrong."""

    erased: int
    wrong: int


def count_erased(
    before: PanopticPrediction, after: PanopticPrediction, truth: GroundTruth
) -> ErasedCount:
    """How well erasing chose in one image: its panoptic maps without and with, and its truth."""
    left = {s.category: s.area for s in after.segments}
    stuff = [s for s in before.segments if not s.is_thing]
    erased = {s.category for s in stuff if 2 * left.get(s.category, 0) < s.area}
    return ErasedCount(len(erased), len(erased & wrong_stuff(before, truth)))


def _upsampled_rows(logits: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
    """The rows ``[C, 1, W]`` of the logits interpolated to network pixels, one by one."""

    @lru_cache(maxsize=2)
    def widened(row: int) -> Tensor:
        return F.interpolate(logits[None, :, row].float(), scale_factor=STRIDE, mode="linear")[
            0, :, : size[1]
        ]

    last = logits.shape[1] - 1
    for y in range(size[0]):
        position = min(max((y + 0.5) / STRIDE - 0.5, 0.0), last)
        above = int(position)
        row = torch.lerp(widened(above), widened(min(above + 1, last)), position - above)
        yield row[:, None]


def _best_categories(
    strips: Iterator[Tensor], size: tuple[int, int], device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """``[h, w]`` uint8 and float32 best category and its probability; never all probabilities."""
    best = torch.empty(size, dtype=torch.uint8, device=device)
    probabilities = torch.empty(size, device=device)
    top = 0
    for strip in strips:
        values = strip.float()
        rows = slice(top, top + values.shape[1])
        peak, best[rows] = values.max(dim=0)
        probabilities[rows] = (values - peak).exp_().sum(dim=0).reciprocal_()
        top = rows.stop
    return best.cpu().numpy(), probabilities.cpu().numpy()


def _transfer(
    labels: np.ndarray, best: np.ndarray, semantic: np.ndarray, *, y: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """``[H, W]`` label of the nearest cell of each original pixel's own category, else 0.

    ``labels`` and ``best`` are ``[h, w]`` region and category of each cell; ``y`` and ``x`` the
    float64 centres of the pixels' rows and columns in cells, of which k covers ``[k, k + 1)``.
    """
    rows, columns = (
        np.minimum(centres.astype(np.int64), cells - 1)
        for centres, cells in zip((y, x), best.shape, strict=True)
    )
    is_own = best[:, columns][rows] == semantic
    result: np.ndarray = np.where(is_own, labels[:, columns][rows], 0)
    has_label = np.zeros(IGNORE_INDEX + 1, bool)
    has_label[best[labels > 0]] = True
    i, j = np.nonzero(has_label[semantic] & ~is_own)
    wanted, row, column = semantic[i, j], rows[i], columns[j]
    below, right = y[i] - row - 0.5, x[j] - column - 0.5  # of the cell's centre
    padded_labels, padded_best = np.pad(labels, 1), np.pad(best, 1, constant_values=IGNORE_INDEX)
    width = padded_best.shape[1]
    chosen, nearest = np.zeros(len(wanted), labels.dtype), np.full(len(wanted), np.inf)
    for dy, dx in product((-1, 0, 1), repeat=2):
        cells = (row + 1 + dy) * width + column + 1 + dx
        found = np.flatnonzero(padded_best.take(cells) == wanted)
        distances = (below[found] - dy) ** 2 + (right[found] - dx) ** 2
        is_nearer = distances < nearest[found]
        found = found[is_nearer]
        nearest[found] = distances[is_nearer]
        chosen[found] = padded_labels.take(cells[found])
    result[i, j] = chosen
    return result
