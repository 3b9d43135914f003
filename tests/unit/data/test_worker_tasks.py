"""Items of a dataset from worker processes."""

import os

import pytest
from torch.utils.data import Dataset

from refine.data.worker_tasks import run_tasks
from refine.errors import RefineError


class _Squares(Dataset):
    def __init__(self, error=None):
        self.error = error

    def __len__(self):
        return 5

    def __getitem__(self, index):
        if self.error is not None and index == 3:
            raise self.error
        return {"square": index * index, "process": os.getpid()}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_items_come_in_order_and_as_they_are(num_workers):
    items = [*run_tasks(_Squares(), num_workers=num_workers)]
    assert [item["square"] for item in items] == [0, 1, 4, 9, 16]
    processes = {item["process"] for item in items}
    assert processes == {os.getpid()} if num_workers == 0 else os.getpid() not in processes


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("error", [RefineError("a.png: broken"), FileNotFoundError(2, "gone")])
def test_an_error_is_raised_as_it_is(num_workers, error):
    items = run_tasks(_Squares(error), num_workers=num_workers)
    assert [next(items)["square"] for _ in range(3)] == [0, 1, 4]
    with pytest.raises(type(error)) as caught:
        next(items)
    assert str(caught.value) == str(error)


def test_other_errors_keep_the_traceback_of_the_worker():
    with pytest.raises(KeyError, match="in __getitem__"):
        [*run_tasks(_Squares(KeyError("bug")), num_workers=1)]
