"""The items of a dataset one by one, each done by whichever worker process is free."""

from collections.abc import Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

from refine.config.interruption import leave_to_parent
from refine.data.forked_workers import keep_garbage
from refine.errors import RefineError

_T = TypeVar("_T")


def run_tasks(tasks: Dataset[_T], *, num_workers: int) -> Iterator[_T]:
    """Each item, in order; the workers start at once, or with 0 this process does the work.

    Items cross as they are, so small ones are best. A :class:`RefineError` or ``OSError`` of an
    item is raised as it is, where torch would wrap it in the traceback of the worker. Signals are
    left to this process.
    """
    loader: DataLoader[Any] = DataLoader(
        _Outcomes(tasks),
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        worker_init_fn=leave_to_parent,
    )
    with keep_garbage():
        outcomes = iter(loader)
    return _take(outcomes)


def _take(outcomes: Iterator[Any]) -> Iterator[Any]:
    try:
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome
    finally:
        # without it workers, which leave signals alone, would outlive an error whose traceback
        # holds the iterator, and Python waits for them at its end
        getattr(outcomes, "_shutdown_workers", lambda: None)()


class _Outcomes(Dataset[Any]):
    """Items, or the errors that took their place."""

    def __init__(self, tasks: Dataset[Any]) -> None:
        self.tasks = tasks

    def __len__(self) -> int:
        return len(self.tasks)  # type: ignore[arg-type]  # torch's class promises none

    def __getitem__(self, index: int) -> Any:
        try:
            return self.tasks[index]
        except (RefineError, OSError) as error:
            return error


def _as_it_is(item: Any) -> Any:
    return item
