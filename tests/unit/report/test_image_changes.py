import numpy as np
import pytest

from make.runs import draw_pictures, make_categories, make_images, write_run
from refine.errors import RefineError
from refine.metrics.functional import PanopticStats
from refine.report.finished_run import read_run
from refine.report.image_changes import (
    compute_image_scores,
    find_changes,
    read_from_folders,
    split_changes,
)

CATEGORIES = make_categories(2, 1)


def image(iou, tp, fp, fn):
    return PanopticStats(*(np.array(v) for v in (iou, tp, fp, fn)))


PERFECT = image([1.0, 0.0, 1.0], [1, 0, 1], [0, 0, 0], [0, 0, 0])
HALF = image([1.0, 0.0, 0.0], [1, 0, 0], [0, 0, 1], [0, 0, 1])  # a right thing, wrong stuff
WRONG = image([0.0, 0.0, 0.0], [0, 0, 0], [1, 0, 0], [0, 0, 0])
EMPTY = PanopticStats.zeros(3)


def make_run(folder, images):
    return read_run(write_run(folder, images, CATEGORIES))


def test_scores_equal_an_obvious_loop(tmp_path):
    images = make_images(20, 3, seed=2)
    scores = compute_image_scores(make_run(tmp_path, images))
    for k, image_id in enumerate(sorted(images)):
        s = images[image_id]
        present = [c for c in range(3) if s.tp[c] + s.fp[c] + s.fn[c]]
        own = [s.iou[c] / (s.tp[c] + s.fp[c] / 2 + s.fn[c] / 2) for c in present]
        assert scores[k] == pytest.approx(sum(own) / len(own) if own else 1.0)


def test_an_empty_image_is_perfect_until_something_is_found_in_it(tmp_path):
    scores = compute_image_scores(make_run(tmp_path, {1: EMPTY, 2: WRONG, 3: PERFECT, 4: HALF}))
    assert scores.tolist() == [1.0, 0.0, 1.0, 0.5]


def test_worst_and_best(tmp_path):
    first = {1: PERFECT, 2: PERFECT, 3: HALF, 4: WRONG, 5: HALF, 6: EMPTY}
    second = {1: WRONG, 2: HALF, 3: PERFECT, 4: PERFECT, 5: HALF, 6: WRONG}
    runs = make_run(tmp_path / "a", first), make_run(tmp_path / "b", second)
    changes = find_changes(*runs)
    losses, gains = split_changes(changes, 5)
    assert losses["change"].to_dict() == {1: -1.0, 6: -1.0, 2: -0.5}
    assert losses.index.tolist() == [1, 6, 2]
    assert [*gains[["before", "after"]].itertuples()] == [(4, 0.0, 1.0), (3, 0.5, 1.0)]
    assert [part.index.tolist() for part in split_changes(changes, 1)] == [[1], [4]]
    assert find_changes(runs[0], runs[0]).empty


def test_other_images_are_refused(tmp_path):
    runs = make_run(tmp_path / "a", {1: HALF}), make_run(tmp_path / "b", {2: HALF})
    with pytest.raises(RefineError, match="different images"):
        find_changes(*runs)


def test_pictures_are_found_by_the_id_in_their_name(tmp_path):
    draw_pictures(tmp_path / "a", image_ids=(7, 8), shade=10)
    draw_pictures(tmp_path / "b", image_ids=(8, 9), shade=200)
    folders = {name: tmp_path / name / "pictures" for name in "ab"}
    source, common = read_from_folders(folders)
    assert common == {8}
    pictures = source(8)
    assert list(pictures) == ["a", "b"]
    assert pictures["b"].shape == (60, 240, 3)
    assert read_from_folders({"none": tmp_path / "none"})[1] == set()
