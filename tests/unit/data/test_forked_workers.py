"""What workers do with the garbage of the process that they are forked from."""

import gc
import os

import pytest
from torch.utils.data import Dataset

from refine.data.datamodule import BatchLoader
from refine.data.forked_workers import keep_garbage
from refine.data.worker_tasks import run_tasks

_freed = []


class _Owned:
    """In a cycle with itself, so that only the collector frees it."""

    def __init__(self):
        self.me = self

    def __del__(self):
        _freed.append(os.getpid())


class _Freed(Dataset):
    """How much garbage the process that reads an item frees."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        gc.collect()
        return _freed.count(os.getpid()), os.getpid()


def _by_tasks():
    return run_tasks(_Freed(), num_workers=1)


def _by_loader():
    return iter(BatchLoader(_Freed(), batch_size=None, num_workers=1))


@pytest.fixture
def _garbage():
    gc.collect()  # what other tests left
    gc.disable()
    _freed.clear()
    _Owned()
    yield
    gc.enable()


def _fork():
    """How much garbage a forked process frees: its exit status."""
    child = os.fork()
    if child == 0:
        gc.collect()
        os._exit(len(_freed))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.usefixtures("_garbage")
@pytest.mark.parametrize("start", [_by_tasks, _by_loader])
def test_workers_leave_garbage_to_its_process(start):
    for num_freed, process in start():
        assert process != os.getpid()
        assert num_freed == 0
    assert _freed == []
    gc.collect()
    assert _freed == [os.getpid()]


@pytest.mark.usefixtures("_garbage")
def test_other_forks_are_as_before():
    assert _fork() == 1
    with keep_garbage():
        assert _fork() == 0
    assert _fork() == 1
