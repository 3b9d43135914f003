"""Worker processes that are forked from this one, as those of torch's loaders are."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class _State:
    """Of the process: forks ask it."""

    keeps_garbage: bool = False


_state = _State()


@contextmanager
def keep_garbage() -> Iterator[None]:
    """Processes forked in this block never free what is garbage in this one.

    A fork copies objects but no threads. An object that ends its own threads when it is freed (a
    frame of a video with its scaler, an ONNX session) would wait for them for ever, and whoever
    waits for the worker would, too. Left alone, the copies also stay shared memory.
    """
    before, _state.keeps_garbage = _state.keeps_garbage, True
    try:
        yield
    finally:
        _state.keeps_garbage = before


def _freeze() -> None:
    if _state.keeps_garbage:
        gc.freeze()


os.register_at_fork(after_in_child=_freeze)
