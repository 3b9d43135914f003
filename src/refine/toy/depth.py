"""Who lies in front in a toy scene, once everything has its place."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from refine.toy.objects import ALWAYS_OVER, ToyObject

PAIR_OVERLAP = 0.2
"""Smallest joint part of either mask with which two things count as a pair."""

_ORDER_DRAWS = 6


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Joint pixels of two ``[H, W]`` bool masks as a fraction of the smaller one."""
    return float((first & second).sum() / max(1, min(first.sum(), second.sum())))


def overlapping_pairs(order: Sequence[ToyObject]) -> Iterator[tuple[ToyObject, ToyObject]]:
    """The pairs (far, near) of things that are no crowds, given from far to near."""
    for far, near in combinations([thing for thing in order if not thing.is_crowd], 2):
        if overlap(far.mask, near.mask) >= PAIR_OVERLAP:
            yield far, near


def nearer_is(far: ToyObject, near: ToyObject) -> tuple[bool, bool]:
    """Whether the nearer thing is the smaller one, and whether its middle row is the lower one."""
    is_smaller = bool(near.mask.sum() < far.mask.sum())
    return is_smaller, _middle_row(near.mask) > _middle_row(far.mask)


def _middle_row(mask: np.ndarray) -> float:
    rows = np.flatnonzero(mask.any(1))
    return float(rows[0] + rows[-1] + 1) / 2


def balanced_order(
    rng: np.random.Generator, placed: Sequence[ToyObject], *, index: int
) -> list[ToyObject]:
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


def _imbalance(order: Sequence[ToyObject], index: int) -> int:
    answers = [nearer_is(*pair) for pair in overlapping_pairs(order)]
    half, odd = divmod(len(answers), 2)
    smaller, lower = np.array(answers, dtype=int).reshape(-1, 2).sum(axis=0).tolist()
    targets = (half + odd * (index & 1), half + odd * (index >> 1 & 1))
    return int(abs(smaller - targets[0]) + abs(lower - targets[1]))


def _draw_order(rng: np.random.Generator, placed: Sequence[ToyObject]) -> list[ToyObject]:
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
