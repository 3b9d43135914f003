"""Overlapping pairs of generated scenes, cut out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from refine.toy.depth import PAIR_OVERLAP, overlap
from refine.toy.objects import TOY_CATEGORIES, ToyObject, ToyScene

SIDE = 40
"""Pixels of a crop: about as many as the scene has there."""

_NUM_CATEGORIES = len(TOY_CATEGORIES)
_MARGIN = 1.8  # side of the window over that of the overlap: both things reach beyond it
_MIN_WINDOW_PX = 24.0


class Pair(NamedTuple):
    """Two things of a scene that overlap."""

    upper: ToyObject
    lower: ToyObject


@dataclass(frozen=True, slots=True, eq=False)
class PairCrops:
    """What networks and rules may look at; the upper thing comes first everywhere.

    Attributes:
        images: ``[K, 3, SIDE, SIDE]`` uint8 RGB around the overlap.
        masks: ``[K, 2, SIDE, SIDE]`` uint8 0 to 255, the full masks of both.
        areas: ``[K, 2]`` int64 pixels of the full masks.
        categories: ``[K, 2]`` int64.
    """

    images: Tensor
    masks: Tensor
    areas: np.ndarray
    categories: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


def find_pairs(scene: ToyScene) -> Iterator[Pair]:
    """Things that overlap, unless a third one hides most of where they do."""
    things = [thing for thing in scene.objects if not thing.is_crowd]
    for far, near in combinations(things, 2):
        both = far.mask & near.mask
        if overlap(far.mask, near.mask) < PAIR_OVERLAP:
            continue
        shown = [np.count_nonzero(both & t.visible) for t in scene.objects if t is not near]
        if np.count_nonzero(both & near.visible) > max(shown):
            yield Pair(near, far)


def cut_out(scenes: Iterable[ToyScene]) -> PairCrops:
    """The crops of all pairs.

    Raises:
        ValueError: There is no pair.
    """
    crops, pairs = [], []
    for scene in scenes:
        for pair in find_pairs(scene):
            crops.append(_cut(scene.image, pair))
            pairs.append(pair)
    if not pairs:
        raise ValueError("no pair in these scenes; take more")
    pixels = torch.stack(crops)
    return PairCrops(
        images=pixels[:, :3],
        masks=pixels[:, 3:],
        areas=np.array([[np.count_nonzero(thing.mask) for thing in pair] for pair in pairs]),
        categories=np.array([[thing.category for thing in pair] for pair in pairs]),
    )


def order_by_categories(train: PairCrops, val: PairCrops) -> np.ndarray:
    """How right the order is that two categories mostly have in training.

    Returns:
        ``[K]`` float64 of the pairs of ``val``: 1 right, 0 wrong, 1/2 where there is none.
    """
    counts = np.zeros((_NUM_CATEGORIES, _NUM_CATEGORIES), np.int64)
    np.add.at(counts, tuple(train.categories.T), 1)
    upper, lower = val.categories.T
    is_right: np.ndarray = (np.sign(counts[upper, lower] - counts[lower, upper]) + 1) / 2
    return is_right


def _cut(image: np.ndarray, pair: Pair) -> Tensor:
    """``[5, SIDE, SIDE]`` uint8: a square around the overlap, zero outside the image."""
    rows, columns = np.nonzero(pair.upper.mask & pair.lower.mask)
    extents = [(int(p.min()), int(p.max()) + 1) for p in (columns, rows)]
    side = max(_MIN_WINDOW_PX, _MARGIN * max(high - low for low, high in extents))
    planes = [*image.transpose(2, 0, 1), 255 * pair.upper.mask, 255 * pair.lower.mask]
    canvas = torch.from_numpy(np.stack(planes).astype(np.float32))[None]
    centres = ((np.arange(SIDE) + 0.5) / SIDE - 0.5) * side
    # positions as grid_sample counts them: -1 and 1 are the image's borders
    x, y = (
        torch.from_numpy((2 * ((low + high) / 2 + centres) / length - 1).astype(np.float32))
        for (low, high), length in zip(extents, image.shape[1::-1], strict=True)
    )
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]
    return F.grid_sample(canvas, grid, align_corners=False)[0].round().to(torch.uint8)
