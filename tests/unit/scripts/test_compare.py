"""compare_runs tells two runs apart; compare_sweep chooses on one half and reports the other."""

import json
import shutil

import numpy as np
import pytest

from make.commands import load_script
from make.runs import make_categories, make_images, write_run
from refine.errors import RefineError
from refine.metrics.functional import PanopticStats
from refine.report.bootstrap import compare
from refine.report.finished_run import read_run

CATEGORIES = make_categories(2, 2)
compare_runs, compare_sweep = load_script("compare_runs"), load_script("compare_sweep")


@pytest.fixture
def folders(tmp_path):
    """The same images, all categories but the first made worse."""
    images = make_images(30, 4, seed=1)
    factor = np.array([1.0, 0.9, 0.8, 0.8])
    worse = {k: PanopticStats(factor * s.iou, s.tp, s.fp, s.fn) for k, s in images.items()}
    write_run(tmp_path / "a", images, CATEGORIES)
    write_run(tmp_path / "b", worse, CATEGORIES)
    return tmp_path / "a", tmp_path / "b"


def test_a_clear_difference_and_none(folders, capsys):
    assert compare_runs.main([*map(str, folders), "--resamples", "200"]) == 0
    out = capsys.readouterr().out
    metrics = [json.loads((f / "metrics.json").read_text()) for f in folders]
    line = next(text for text in out.splitlines() if text.startswith("PQ stuff"))
    assert f"{100 * metrics[0]['pq_stuff']:.1f} [" in line
    assert f"{100 * (metrics[1]['pq_stuff'] - metrics[0]['pq_stuff']):+.1f} [-" in line
    assert line.endswith("  distinguishable")
    assert "30 images; 95 % intervals of 200 resamples" in out
    assert "best changes: none" in out
    worst = out[out.index("worst changes") :].splitlines()[1:6]
    changes = [float(text.split()[-1]) for text in worst]
    assert changes == sorted(changes)
    assert changes[-1] < 0
    assert compare_runs.main([str(folders[0])] * 2 + ["--resamples", "20"]) == 0
    out = capsys.readouterr().out
    assert out.count("not distinguishable") == out.count("+0.0 [+0.0, +0.0]") == 3
    assert "worst changes: none" in out


def test_files_are_named_if_the_annotations_are_at_hand(folders, capsys, tmp_path):
    path, ids = tmp_path / "panoptic_val.json", range(100, 130)
    content = {
        "images": [{"id": k, "file_name": f"photo{k}.jpg", "width": 4, "height": 4} for k in ids],
        "annotations": [{"image_id": k, "file_name": f"{k}.png", "segments_info": []} for k in ids],
        "categories": CATEGORIES.to_json(),
    }
    path.write_text(json.dumps(content))
    arguments = [*map(str, folders), "--resamples", "9", "--images", "2", "--annotations", path]
    assert compare_runs.main(list(map(str, arguments))) == 0
    out = capsys.readouterr().out
    assert out.count(".jpg") == 2


def test_bad_input_is_one_line(folders, capsys):
    with pytest.raises(SystemExit):
        compare_runs.main([*map(str, folders), "--resamples", "0"])
    assert "at least 1" in capsys.readouterr().err
    (folders[1] / "DONE").unlink()
    assert compare_runs.main([*map(str, folders)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "has not finished" in err


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
    scores, chooses = compare_sweep.score_halves([plain, better], plain, "pq")
    assert (scores[1] > scores[0]).tolist() == [0 in perfect_on, 1 in perfect_on]
    reported = [run.take_images(~chooses) for run in (plain, better)]
    expected = compare(*reported, num_resamples=50)["pq"]
    sweep = str(tmp_path / "sweep")
    assert compare_sweep.main([sweep, "--reference", f"{sweep}/plain", "--resamples", "50"]) == 0
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
        compare_sweep.score_halves([few], plain, "pq")
    assert (
        compare_sweep.main([str(tmp_path), "--reference", str(tmp_path / "sweep" / "plain")]) == 1
    )
    assert "no finished run" in capsys.readouterr().err


def test_settings_are_ordered_by_their_numbers_and_named_by_what_differs(tmp_path):
    _runs(tmp_path, perfect_on=())
    plain, values = tmp_path / "sweep" / "plain", (10.0, 0.5, 2.0)
    for number, value in enumerate(values):
        shutil.copytree(plain, tmp_path / "many" / f"sigma-{value}+seed-0+{number:08x}")
    names = [f"sigma-{v}" for v in sorted(values)]
    assert [*compare_sweep.read_sweep(tmp_path / "many")] == names
    out = tmp_path / "table.md"
    arguments = [str(tmp_path / "many"), "--reference", str(plain), "--resamples", "10"]
    assert compare_sweep.main([*arguments, "--out", str(out)]) == 0
    assert "| sigma-2.0 " in out.read_text()
