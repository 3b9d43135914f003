"""Who lies in front in a toy scene, once everything has its place."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

ALWAYS_OVER = (("star", "ball"), ("moon", "crate"), ("pill", "tent"), ("pill", "moon"))
"""Pairs (front, back) of things whose order the categories give away. Without a cycle."""

PAIR_OVERLAP = 0.2
"""Two things count as a pair from this joint fraction of either mask on."""

_ORDER_DRAWS = 6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placed:
    """An object with its place, before anybody knows its depth.

    Attributes:
        name: Category.
        is_crowd: A cluster of small things.
        outlines: ``[K, 2]`` corners of each member.
        mask: ``[H, W]`` bool, its pixels in the image.
        side: Square root of its area, in pixels.
        centre: (x, y) in pixels.
    """

    name: str
    is_crowd: bool
    outlines: tuple[np.ndarray, ...]
    mask: np.ndarray
    side: float
    centre: tuple[float, float]


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Joint pixels of two ``[H, W]`` bool masks as a fraction of the smaller one."""
    return float((first & second).sum() / max(1, min(first.sum(), second.sum())))


def middle_row(mask: np.ndarray) -> float:
    """Middle (y) of the rows that a mask touches; it must not be empty."""
    rows = np.flatnonzero(mask.any(1))
    return float(rows[0] + rows[-1] + 1) / 2


def balanced_order(
    rng: np.random.Generator, placed: Sequence[Placed], *, index: int
) -> list[Placed]:
    """A random depth order, from far to near, in which size and height tell next to nothing.

    Of a few orders it takes the one in which the nearer of a pair is as often the smaller as the
    larger, and as often the lower as the upper. Chance alone would balance thousands of scenes
    as well, but not a hundred.

    Args:
        rng: Source of the orders.
        placed: The objects.
        index: Number of the scene; its bits say on which side an odd pair out falls.
    """
    draws = [_draw_order(rng, placed) for _ in range(_ORDER_DRAWS)]
    return min(draws, key=lambda order: _imbalance(order, index))


def _imbalance(order: Sequence[Placed], index: int) -> int:
    smaller, lower = [], []
    for far, near in combinations([thing for thing in order if not thing.is_crowd], 2):
        if overlap(far.mask, near.mask) >= PAIR_OVERLAP:
            smaller.append(bool(near.mask.sum() < far.mask.sum()))
            lower.append(middle_row(near.mask) > middle_row(far.mask))
    half, odd = divmod(len(smaller), 2)
    targets = (half + odd * (index & 1), half + odd * (index >> 1 & 1))
    return abs(sum(smaller) - targets[0]) + abs(sum(lower) - targets[1])


def _draw_order(rng: np.random.Generator, placed: Sequence[Placed]) -> list[Placed]:
    """Crowds at the back, then one thing after another that nothing left must lie under."""
    order = [thing for thing in placed if thing.is_crowd]
    left = [thing for thing in placed if not thing.is_crowd]
    while left:
        names = {thing.name for thing in left}
        ready = [
            k
            for k, thing in enumerate(left)
            if not any(front == thing.name and back in names for front, back in ALWAYS_OVER)
        ]
        order.append(left.pop(int(rng.choice(ready))))
    return order
