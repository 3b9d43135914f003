"""One half chooses, the other reports."""

import shutil

import numpy as np
import pytest

from make.runs import make_categories, make_images, write_run
from make.scripts import load_script
from refine.errors import RefineError
from refine.metrics.functional import PanopticStats
from refine.report.bootstrap import compare
from refine.report.finished_run import read_run

CATEGORIES = make_categories(2, 2)
script = load_script("compare_sweep")


def _runs(tmp_path, *, perfect_on):
    """A run, and one that is perfect on even images (0), odd ones (1) or both."""
    images, ones, zeros = make_images(40, 4, seed=0), np.ones(4, int), np.zeros(4, int)
    perfect = PanopticStats(ones.astype(float), ones, zeros, zeros)
    better = {k: perfect if k % 2 in perfect_on else stats for k, stats in images.items()}
    for name, content in (("plain", images), ("variant", better)):
        write_run(tmp_path / "sweep" / name, content, CATEGORIES)
    return [read_run(tmp_path / "sweep" / name) for name in ("plain", "variant")]


@pytest.mark.parametrize(
    ("perfect_on", "chosen", "is_gain"),
    [((0, 1), "variant", True), ((0,), "variant", False), ((1,), "plain", False)],
    ids=["better everywhere", "better on the choosing half", "better on the reporting half"],
)
def test_one_half_chooses_the_other_reports(tmp_path, capsys, perfect_on, chosen, is_gain):
    plain, better = _runs(tmp_path, perfect_on=perfect_on)
    scores, chooses = script.score_halves([plain, better], plain, "pq")
    assert (scores[1] > scores[0]).tolist() == [0 in perfect_on, 1 in perfect_on]
    reported = [run.take_images(~chooses) for run in (plain, better)]
    expected = compare(*reported, num_resamples=50)["pq"]
    sweep = str(tmp_path / "sweep")
    assert script.main([sweep, "--reference", f"{sweep}/plain", "--resamples", "50"]) == 0
    output = capsys.readouterr().out
    assert f"| **{chosen}** " in output
    assert ("excludes 0" in output) == is_gain
    if chosen == "variant":
        assert f"- pq: {expected.format(decimals=2)}" in output
        assert (expected.low > 0) == is_gain


def test_other_images_are_refused(tmp_path, capsys):
    plain, _ = _runs(tmp_path, perfect_on=())
    few = plain.take_images(np.arange(40) < 10)
    assert few.iou.shape == (10, 4)
    with pytest.raises(RefineError, match="different images"):
        script.score_halves([few], plain, "pq")
    assert script.main([str(tmp_path), "--reference", str(tmp_path / "sweep" / "plain")]) == 1
    assert "no finished run" in capsys.readouterr().err


def test_settings_are_ordered_by_their_numbers_and_named_by_what_differs(tmp_path):
    _runs(tmp_path, perfect_on=())
    plain, values = tmp_path / "sweep" / "plain", (10.0, 0.5, 2.0)
    for value in values:
        shutil.copytree(plain, tmp_path / "many" / f"fusion.sigma={value},seed=0")
    assert [*script.read_sweep(tmp_path / "many")] == [f"fusion.sigma={v}" for v in sorted(values)]
    out = tmp_path / "table.md"
    arguments = [str(tmp_path / "many"), "--reference", str(plain), "--resamples", "10"]
    assert script.main([*arguments, "--out", str(out)]) == 0
    assert "| fusion.sigma=2.0 " in out.read_text()
