"""The demo's table: what each part adds to the one before."""

import re

from made_up_runs import make_categories, make_images, write_run
from refine.report.parts import to_table
from refine.report.runs import read_run


def _run(folder, seed, number=40):
    categories = make_categories(3, 2)
    return read_run(write_run(folder, make_images(number, 5, seed=seed), categories))


def test_every_row_is_compared_with_the_one_before(tmp_path):
    first, second = _run(tmp_path / "a", 0), _run(tmp_path / "b", 1)
    lines = to_table([("baseline", first), ("+ IBPP", second), ("+ SOE", second)]).splitlines()
    baseline, ibpp, soe = lines[2:5]
    pq = [100 * run.metrics["pq"] for run in (first, second)]
    assert baseline.startswith(f"| baseline | {pq[0]:.1f} |")
    assert baseline.endswith("|  |")
    added = re.search(r"\| ([+-][\d.]+) \[([+-][\d.]+), ([+-][\d.]+)\]", ibpp)
    value, low, high = map(float, added.groups())
    assert abs(value - (pq[1] - pq[0])) < 0.051
    assert low <= value <= high
    assert "| +0.0 [+0.0, +0.0] (not distinguishable from 0) |" in soe
    assert lines[-1].startswith("40 images.")
