"""Tables 5 and 6 in one pass each, over predictions that hold the answers of all heads."""

import json

import pytest

from make.commands import run_main
from make.predictions import write_toy_cache

pytestmark = pytest.mark.slow
HEADS = ("category", "mask", "feature", "label", "ocfusion", "strong")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return write_toy_cache(
        folder / "all_heads", root=folder / "data", num_val=5, heads=HEADS, rankings=("srm",),
        random_answers=True,
    )  # fmt: skip


@pytest.fixture
def sweep(cache, tmp_path):
    """Runs a sweep over the cache; its results by job."""

    def _sweep(name, *overrides):
        arguments = ["-m", f"sweep={name}", f"predictions={cache}", "data.num_workers=0"]
        assert run_main("evaluate", *arguments, *overrides, cwd=tmp_path) == 0
        return {
            p.parent.name: json.loads((p.parent / "metrics.json").read_text())
            for p in (tmp_path / "runs" / f"sweep_{name}").glob("*/DONE")
        }

    return _sweep


def test_every_row_of_table_5_comes_out_of_one_pass(sweep):
    jobs = sweep("relations", "fusion.unknown_erasing.mode=score")
    names = ["heuristic", "area", "shr", "srm", "category_pairs", "ocfusion", "strong_baseline"]
    names += ["soe", "oracle"]
    assert {name.partition("+")[0] for name in jobs} == set(names)
    assert len({m["pq_things"] for m in jobs.values()}) > len(names) // 2  # each has its own order
    assert "oracle" in max(jobs, key=lambda name: jobs[name]["pq_things"])


def test_every_row_of_table_6_has_its_own_head(sweep):
    jobs = sweep("soe_inputs")
    assert len(jobs) == 7
    assert len({m["pq_things"] for m in jobs.values()}) > 3


def test_a_sweep_that_is_started_again_finds_its_rows(sweep, capsys):
    rows = [f"~hydra.sweeper.rows.{n}" for n in ("srm", "shr", "oracle", "category_pairs")]
    for number, more in ((0, ["seed=0,1"]), (5, ["seed=1"]), (10, ["seed=1,0", "trainer=cpu"])):
        assert len(sweep("relations", *rows, *more)) == 10  # whatever else is swept
        assert capsys.readouterr().out.count("finished before") == number
