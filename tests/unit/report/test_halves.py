"""One half chooses, the other reports."""

import shutil

import numpy as np
import pytest

from made_up_runs import make_categories, make_images, write_run
from make.scripts import load_script
from refine.errors import RefineError
from refine.metrics.functional import PanopticStats
from refine.report.halves import choose_on_half, take_images
from refine.report.runs import read_run

CATEGORIES = make_categories(2, 2)


def _perfect(stats):
    zeros = np.zeros_like(stats.tp)
    tp = stats.tp + 1
    return PanopticStats(tp.astype(float), tp, zeros, zeros)


def _runs(tmp_path, *, perfect_on):
    """A run, and one that is perfect on the images whose place is among ``perfect_on``."""
    images = make_images(40, 4, seed=0)
    better = {
        image_id: _perfect(stats) if place % 2 in perfect_on else stats
        for place, (image_id, stats) in enumerate(images.items())
    }
    for name, content in (("plain", images), ("better", better)):
        write_run(tmp_path / "sweep" / name, content, CATEGORIES)
    return [read_run(tmp_path / "sweep" / name) for name in ("plain", "better")]


def test_what_is_better_everywhere_is_chosen_and_reported_better(tmp_path):
    plain, better = _runs(tmp_path, perfect_on=(0, 1))
    choice = choose_on_half([plain, better], plain)
    assert choice.chosen is better
    assert choice.reporting[1] == 1.0
    assert choice.differences["pq"].low > 0


def test_what_shines_on_the_choosing_half_only_is_reported_as_nothing(tmp_path):
    plain, lucky = _runs(tmp_path, perfect_on=(0,))
    choice = choose_on_half([plain, lucky], plain)
    assert choice.chosen is lucky
    assert choice.differences["pq"].value == 0
    assert choice.differences["pq"].includes_zero


def test_what_shines_on_the_reporting_half_only_is_not_chosen(tmp_path):
    plain, unlucky = _runs(tmp_path, perfect_on=(1,))
    choice = choose_on_half([plain, unlucky], plain)
    assert choice.chosen is plain
    assert choice.reporting[1] > choice.reporting[0]


def test_other_images_are_refused(tmp_path):
    plain, _ = _runs(tmp_path, perfect_on=())
    few = take_images(plain, np.arange(40) < 10)
    assert few.iou.shape == (10, 4)
    with pytest.raises(RefineError, match="different images"):
        choose_on_half([few], plain)


def test_script_names_the_chosen_setting(tmp_path, capsys):
    _runs(tmp_path, perfect_on=(0, 1))
    script = load_script("compare_sweep")
    sweep = str(tmp_path / "sweep")
    assert script.main([sweep, "--reference", f"{sweep}/plain", "--resamples", "50"]) == 0
    output = capsys.readouterr().out
    assert "| **better** | 100.00 | 100.00 |" in output
    assert "excludes 0" in output
    assert script.main([str(tmp_path), "--reference", f"{sweep}/plain"]) == 1
    assert "no finished run" in capsys.readouterr().err


def test_script_orders_settings_by_their_numbers_and_names_what_differs(tmp_path):
    script = load_script("compare_sweep")
    _runs(tmp_path, perfect_on=())
    values = (10.0, 0.5, 2.0)
    for value in values:
        shutil.copytree(
            tmp_path / "sweep" / "plain", tmp_path / "many" / f"fusion.sigma={value},seed=0"
        )
    runs = script.read_sweep(tmp_path / "many")
    names = script.name_settings(runs)
    assert [names[run.folder] for run in runs] == [f"fusion.sigma={v}" for v in sorted(values)]
    arguments = [str(tmp_path / "many"), "--reference", str(tmp_path / "sweep" / "plain")]
    out = tmp_path / "table.md"
    assert script.main([*arguments, "--resamples", "10", "--out", str(out)]) == 0
    assert "| fusion.sigma=2.0 |" in out.read_text()
