import json

import numpy as np
import pytest

from make.runs import make_categories, make_images, write_run
from make.scripts import load_script
from refine.metrics.functional import PanopticStats

CATEGORIES = make_categories(2, 2)
compare_runs = load_script("compare_runs")


@pytest.fixture
def folders(tmp_path):
    """The same images, all categories but the first made worse."""
    images = make_images(30, 4, seed=1)
    factor = np.array([1.0, 0.9, 0.8, 0.8])
    worse = {k: PanopticStats(factor * s.iou, s.tp, s.fp, s.fn) for k, s in images.items()}
    write_run(tmp_path / "a", images, CATEGORIES)
    write_run(tmp_path / "b", worse, CATEGORIES)
    return tmp_path / "a", tmp_path / "b"


def test_a_clear_difference(folders, capsys):
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


def test_no_difference_is_said_in_words(folders, capsys):
    assert compare_runs.main([str(folders[0])] * 2 + ["--resamples", "20"]) == 0
    out = capsys.readouterr().out
    assert out.count("not distinguishable") == 3
    assert out.count("+0.0 [+0.0, +0.0]") == 3
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
