import os
import time

import pytest

from refine.errors import RefineError
from refine.workflows.worker_pool import open_pool, submit_ahead


def work(number):
    time.sleep(0.02 * (number % 3))
    if number == 4:
        raise RefineError("four: bad; take another")
    return number, os.getpid()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_results_come_in_order_and_errors_where_they_are_asked_for(num_workers):
    with open_pool(num_workers) as pool:
        futures = submit_ahead(pool, work, ((k,) for k in range(8)), ahead=2 * num_workers)
        results = []
        for future in futures:
            try:
                results.append(future.result())
            except RefineError as error:
                results.append((str(error), 0))
    assert [r[0] for r in results] == [0, 1, 2, 3, "four: bad; take another", 5, 6, 7]
    assert (os.getpid() in {r[1] for r in results}) == (num_workers == 0)


def test_no_more_than_that_many_items_are_taken_ahead():
    taken = []
    with open_pool(0) as pool:
        items = ((taken.append(k) or k,) for k in range(100))
        futures = submit_ahead(pool, lambda k: k, items, ahead=3)
        assert next(futures).result() == 0
        assert taken == [0, 1, 2, 3]
