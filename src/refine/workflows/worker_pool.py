"""Processes that work beside this one, or none."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

_T = TypeVar("_T")


@contextmanager
def open_pool(num_workers: int) -> Iterator[Executor]:
    """``num_workers`` processes that end with the block; with 0, this process does the work."""
    if num_workers == 0:
        yield _Here()
        return
    # spawned: a fork would copy threads' locks, and a GPU does not survive it
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def submit_ahead(
    pool: Executor, work: Callable[..., _T], items: Iterable[tuple[Any, ...]], *, ahead: int
) -> Iterator["Future[_T]"]:
    """Results of ``work(*item)`` in the order of the items, at most ``ahead`` not yet asked for."""
    waiting: deque[Future[_T]] = deque()
    for item in items:
        waiting.append(pool.submit(work, *item))
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting


class _Here(Executor):
    """Works at once and in this process."""

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> "Future[_T]":
        future: Future[_T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _start_worker() -> None:
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
