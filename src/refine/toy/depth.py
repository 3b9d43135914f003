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
    far_rows, near_rows = (np.flatnonzero(thing.mask.any(1)) for thing in (far, near))
    is_lower = near_rows[0] + near_rows[-1] > far_rows[0] + far_rows[-1]
    return bool(near.mask.sum() < far.mask.sum()), bool(is_lower)


def balanced_order(
    rng: np.random.Generator, placed: Sequence[ToyObject], *, index: int
) -> list[ToyObject]:
    """A random depth order, from far to near, in which size and height tell next to nothing.

    Of a few orders it takes the one in which the nearer of a pair is as often the smaller as the
    larger, and as often the lower as the upper; the bits of ``index``, the scene's number, say on
    which side an odd pair out falls. Chance alone would balance thousands of scenes as well, but
    not a hundred.
    """

    def imbalance(order: Sequence[ToyObject]) -> int:
        answers = [nearer_is(*pair) for pair in overlapping_pairs(order)]
        half, odd = divmod(len(answers), 2)
        counts = np.array(answers, dtype=int).reshape(-1, 2).sum(axis=0)
        return int(np.abs(counts - half - odd * np.array([index & 1, index >> 1 & 1])).sum())

    return min((_draw_order(rng, placed) for _ in range(_ORDER_DRAWS)), key=imbalance)


def _draw_order(rng: np.random.Generator, placed: Sequence[ToyObject]) -> list[ToyObject]:
    """Crowds at the back, then one thing after another that nothing left must lie under."""
    order = [thing for thing in placed if thing.is_crowd]
    left = [thing for thing in placed if not thing.is_crowd]
    while left:
        names = {thing.name for thing in left}
        waiting = {front for front, back in ALWAYS_OVER if back in names}
        ready = [k for k, thing in enumerate(left) if thing.name not in waiting]
        order.append(left.pop(int(rng.choice(ready))))
    return order
