"""One order of painting for all instances of an image, out of relations between pairs."""

from collections.abc import Mapping, Sequence


def paint_order(by_score: Sequence[int], edges: Sequence[tuple[int, int]]) -> list[int]:
    """Order instances from bottom to top so that no relation is broken without need.

    Relations may run in circles: the weakest one that lies on a circle is dropped until there is
    no circle. Of the instances that may come next, the one of the lowest score does.

    Args:
        by_score: The instances to order, by descending score.
        edges: ``(upper, lower)``, the clearest first; others than the given instances are ignored.
    """
    known = set(by_score)
    lower = _without_circles([e for e in edges if known.issuperset(e)])
    waiting, painted = list(by_score), dict[int, None]()
    while waiting:
        last = next(k for k in reversed(waiting) if lower.get(k, set()) <= painted.keys())
        waiting.remove(last)
        painted[last] = None
    return list(painted)


def _without_circles(edges: Sequence[tuple[int, int]]) -> dict[int, set[int]]:
    """The instances directly below each one."""
    lower: dict[int, set[int]] = {}
    for upper, below in edges:
        lower.setdefault(upper, set()).add(below)
    for upper, below in reversed(edges):
        if _lies_over(below, upper, lower):
            lower[upper].remove(below)
    return lower


def _lies_over(start: int, goal: int, lower: Mapping[int, set[int]]) -> bool:
    """Whether relations lead down from one instance to the other."""
    seen, open_ends = {start}, [start]
    while open_ends:
        found = lower.get(open_ends.pop(), set()) - seen
        seen |= found
        open_ends.extend(found)
    return goal in seen
