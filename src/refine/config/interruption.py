"""Signals: they end a command at once, but a training only between two steps."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any


class Interrupted(BaseException):
    """A signal has asked the process to end; ``args`` is its number."""


@dataclass(slots=True)
class _State:
    """Signals belong to the process."""

    number: int | None = None  # of the signal that has come
    is_watched: bool = False
    waits: bool = False
    requeue: Callable[[int, FrameType | None], Any] | None = None  # Lightning's, on Slurm
    is_due: bool = False  # the requeueing


_state = _State()
_ENDS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def watch_signals() -> Iterator[None]:
    """Raise :class:`Interrupted` where SIGINT or SIGTERM comes."""
    before = {number: signal.signal(number, _handle) for number in _ENDS}
    was_watched, _state.is_watched = _state.is_watched, True
    try:
        yield
    finally:
        _state.is_watched = was_watched
        for number, handler in before.items():
            signal.signal(number, handler)


def start_steps() -> None:
    """From here on, signals take effect in :func:`end_step`; a second SIGINT or SIGTERM at once.

    So does the signal by which Slurm asks to requeue a job. What Lightning itself does where a
    signal comes is left out: it speaks to the other processes and saves checkpoints within a step.
    """
    if not _state.is_watched or threading.current_thread() is not threading.main_thread():
        return
    _state.waits = True
    for number in _ENDS:
        signal.signal(number, _handle)
    handler = signal.getsignal(signal.SIGUSR1)
    if callable(handler) and "SLURM_JOB_ID" in os.environ:
        _state.requeue = handler
        signal.signal(signal.SIGUSR1, _note_requeue)


def end_step(agree: Callable[[int], int]) -> None:
    """Between two steps: requeue the Slurm job, and raise :class:`Interrupted`, if signals say so.

    ``agree`` takes a number and gives the largest one of all processes of the run: they save
    checkpoints together, after the same step.
    """
    if not _state.waits:
        return
    agreed = agree((_state.number or 0) + 256 * _state.is_due)
    is_due, number = divmod(agreed, 256)
    if is_due and _state.requeue is not None:
        _state.is_due = False
        _state.requeue(signal.SIGUSR1, None)
    if number:
        stop_steps()
        _state.number = number
        raise Interrupted(number)


def stop_steps() -> None:
    """From here on, SIGINT and SIGTERM take effect at once again."""
    _state.waits, _state.requeue, _state.is_due = False, None, False


def leave_to_parent(_worker: int) -> None:
    """In a worker of a ``DataLoader``: do nothing about the signals, which also its parent gets."""
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)


def take_signal() -> int | None:
    """Number of the signal that has come, which is forgotten; None without one."""
    stop_steps()
    number, _state.number = _state.number, None
    return number


def _handle(number: int, _frame: FrameType | None) -> None:
    is_first, _state.number = _state.number is None, number
    if not (_state.waits and is_first):
        raise Interrupted(number)


def _note_requeue(_number: int, _frame: FrameType | None) -> None:
    _state.is_due = True
