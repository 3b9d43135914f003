"""What a stage hands to the benchmark, and how time and memory are measured."""

import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

MIN_ROUNDS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Two programs that give the same answer.

    Attributes:
        name: Name in the table.
        ours: One round of our program over all items.
        peer: One round of the other program.
        check: Raises AssertionError if their answers differ.
        items: Number of items (images) per round.
        goal: How many times faster ours has to be; None: there is no goal.
        rounds: Number of timed rounds, without a warm-up, if a round takes seconds; None: as many
            as the command line asks for.
        clock: What tells the time in seconds.
    """

    name: str
    ours: Callable[[], object]
    peer: Callable[[], object]
    check: Callable[[], None] = lambda: None
    items: int = 1
    goal: float | None
    rounds: int | None = None
    clock: Callable[[], float] = time.perf_counter


def measure(case: Case, rounds: int) -> tuple[float, float]:
    """Medians of ours and of the peer over the rounds, in milliseconds per item.

    Both sides take turns, so that a busy machine slows both alike.
    """
    if case.rounds is None:
        case.ours(), case.peer()  # caches and lazy imports
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(case.rounds or max(rounds, MIN_ROUNDS)):
        for side, program in zip(times, (case.ours, case.peer), strict=True):
            start = case.clock()
            program()
            side.append((case.clock() - start) * 1000 / case.items)
    return statistics.median(times[0]), statistics.median(times[1])


def peak_mib(program: Callable[[], object]) -> float:
    """Peak of the memory that numpy and Python allocate in one run, in MiB."""
    program()  # caches and lazy imports
    tracemalloc.start()
    program()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 2**20


def extra_mib(prepare: Callable[..., Callable[[], object]], *arguments: Any) -> float:
    """MiB that one run adds to the peak of a process of its own; NaN where that is not known.

    Args:
        prepare: A function of a module; returns the program to run.
        arguments: Arguments of ``prepare``.
    """
    if not Path("/proc/self/clear_refs").exists():  # Linux only
        return float("nan")
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_extra_mib, (prepare, *arguments))


def _extra_mib(prepare: Callable[..., Callable[[], object]], *arguments: Any) -> float:
    import torch

    torch.set_num_threads(1)
    program = prepare(*arguments)
    program()  # what is allocated once and for all
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _read_memory_kib("VmRSS")
    program()
    return (_read_memory_kib("VmHWM") - before) / 1024


def _read_memory_kib(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
