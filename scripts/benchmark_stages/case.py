"""What a stage hands to the benchmark, and how it is timed."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

MIN_ROUNDS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Two programs that give the same answer.

    Attributes:
        name: Shown in the table.
        ours: One round of our program over all items.
        peer: One round of the other one.
        check: Raises AssertionError if their answers differ.
        items: Items (images) a round.
        goal: How many times faster ours has to be.
        rounds: How many to time, without a round before them, if the other program takes seconds;
            None: as many as asked for.
    """

    name: str
    ours: Callable[[], object]
    peer: Callable[[], object]
    check: Callable[[], None]
    items: int
    goal: float
    rounds: int | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Medians over the rounds, in milliseconds an item."""

    ours_ms: float
    peer_ms: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.peer_ms / self.ours_ms


def measure(case: Case, rounds: int) -> Timing:
    """Time both sides in turn, so that a busy machine slows both alike."""
    if case.rounds is None:
        case.ours(), case.peer()  # caches and lazy imports
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(case.rounds or max(rounds, MIN_ROUNDS)):
        for side, program in zip(times, (case.ours, case.peer), strict=True):
            start = time.perf_counter()
            program()
            side.append((time.perf_counter() - start) * 1000 / case.items)
    return Timing(*map(statistics.median, times))
