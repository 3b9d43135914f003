"""Ctrl-C and SIGTERM: they end a command at once, but a training only between two steps."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


class Interrupted(BaseException):
    """A signal has asked the process to end; ``args`` is its number."""


@dataclass(slots=True)
class _State:
    """Signals belong to the process."""

    number: int | None = None  # of the signal that has come
    waits: bool = False


_state = _State()


@contextmanager
def watch_signals() -> Iterator[None]:
    """Raise :class:`Interrupted` where SIGINT or SIGTERM comes; Slurm's SIGTERM is Lightning's."""
    numbers = [signal.SIGINT] if "SLURM_JOB_ID" in os.environ else [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.signal(number, _handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_for_step() -> None:
    """From here on a signal takes effect in :func:`end_step`; a second one does at once."""
    _state.waits = True


def end_step() -> None:
    """Raise :class:`Interrupted` if a signal has come since :func:`wait_for_step`."""
    _state.waits = False
    if _state.number is not None:
        raise Interrupted(_state.number)


def take_signal() -> int | None:
    """Number of the signal that has come, which is forgotten; None without one."""
    number, _state.number, _state.waits = _state.number, None, False
    return number


def _handle(number: int, _frame: FrameType | None) -> None:
    is_first, _state.number = _state.number is None, number
    if not (_state.waits and is_first):
        raise Interrupted(number)
