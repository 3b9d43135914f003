"""Rows of trainings compared seed by seed."""

import json
import re

import numpy as np
import pytest
from scipy import stats

from make.commands import load_script
from make.runs import make_config, write_entry

compare_seeds = load_script("compare_seeds")
ROWS = {"none": (0.50, 0.58, 0.61), "both": (0.55, 0.60, 0.69), "sem_to_ins": (0.52, 0.57)}


@pytest.fixture
def runs(tmp_path):
    """Three rows, whose PQ is given; the last row lacks a seed."""
    for direction, values in ROWS.items():
        for seed, pq in enumerate(values):
            config = make_config(seed=seed, ibpp={"direction": direction})
            metrics = {"pq": pq, "pq_things": pq / 2, "pq_stuff": pq}
            folder = write_entry(tmp_path / f"{direction}{seed}", config, metrics=metrics)
            if direction != "sem_to_ins":
                (folder / "probe.json").write_text(json.dumps({"gap": 10 * pq}))
    return tmp_path


def test_the_interval_is_that_of_a_t_test():
    values = np.random.default_rng(0).normal(size=7)
    mean, half = compare_seeds.t_interval(values.tolist())
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert np.isnan(compare_seeds.t_interval([1.0])[1])


def test_rows_are_paired_by_seed(runs, capsys):
    arguments = [str(runs), "--reference", "model.ibpp.direction=none", "--keys", "pq", "gap"]
    assert compare_seeds.main(arguments) == 0
    table = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("| direction")
    ]
    cells = {row[0].partition("=")[2]: row[1:] for row in table}
    assert cells["none"] == ["3", "56.33", "5.6333"]
    # +5, +2, +8: mean 5, standard deviation 3, t(.975, 2) 4.3027
    assert cells["both"][:2] == ["3", f"61.33 (+5.00 ± {4.3027 * 3 / 3**0.5:.2f})"]
    assert cells["both"][2].startswith("6.1333 (+0.5000 ± ")
    # +2, -1 on the two seeds that both have: mean .5, standard deviation 2.1213, t(.975, 1) 12.7062
    assert cells["sem_to_ins"][:2] == ["2", f"54.50 (+0.50 ± {12.7062 * 1.5:.2f})"]


@pytest.mark.parametrize(
    "reference", ["model.ibpp.direction=ins_to_sem", "seed=0", "kind=training"]
)
def test_a_reference_is_one_row(runs, capsys, reference):
    assert compare_seeds.main([str(runs), "--reference", reference]) == 1
    assert re.match(r"error: --reference: one row is needed, found: ", capsys.readouterr().err)
