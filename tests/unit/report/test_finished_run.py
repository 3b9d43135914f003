"""Runs read back, image by image, and the images that change between two."""

import numpy as np
import pytest

from make.errors import refused
from make.runs import draw_pictures, make_categories, make_images, make_run, write_run
from refine.metrics.functional import PanopticStats
from refine.report.bootstrap import compare, compute_intervals, resample
from refine.report.finished_run import read_run
from refine.report.image_changes import (
    compute_image_scores,
    find_changes,
    read_from_folders,
    split_changes,
)


def test_a_run_is_read_back_and_every_image_scored(tmp_path):
    images = {50: PanopticStats.zeros(5)} | make_images(20, 5, seed=1)  # one with nothing in it
    run = make_run(tmp_path / "run", images, make_categories(2, 3))
    assert run.image_ids.tolist() == [*images]
    assert run.categories == make_categories(2, 3)
    assert run.metrics["num_images"] == 21
    scores = compute_image_scores(run)
    for k, s in enumerate(images.values()):
        halves = s.tp + s.fp / 2 + s.fn / 2
        assert run.iou[k].tolist() == s.iou.tolist()
        assert run.halves[k].tolist() == halves.tolist()
        own = [s.iou[c] / halves[c] for c in range(5) if halves[c]]
        assert scores[k] == pytest.approx(sum(own) / len(own) if own else 1.0)


MISSING = {
    "DONE": "the run has not finished",
    "metrics.json": "metrics.json: no such file",
    "per_category.csv": "per_category.csv: no such file",
    "per_image.csv": "per_image.csv: no such file; evaluate anew",
}
BROKEN = [("metrics.json", text, "metrics.json: no JSON object") for text in ("[1]", "{", "")]
BROKEN += [
    ("per_category.csv", text, "per_category.csv: malformed")
    for text in ("", "category_id,name\n1,c0\n", "category_id,name,isthing\nx,a,1")
]


@pytest.mark.parametrize(
    ("name", "text", "message"), [*((k, None, v) for k, v in MISSING.items()), *BROKEN]
)
def test_a_missing_or_broken_file_is_named(tmp_path, name, text, message):
    write_run(tmp_path, make_images(2, 5, seed=1))
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_text(text)
    with refused(message):
        read_run(tmp_path)


def test_no_folder_and_files_of_different_evaluations_are_refused(tmp_path):
    with refused("nowhere: no such folder; name the folder"):
        read_run(tmp_path / "nowhere")
    write_run(tmp_path, make_images(4, 5, seed=1))
    other = write_run(tmp_path / "other", make_images(4, 5, seed=2))
    (other / "per_image.csv").replace(tmp_path / "per_image.csv")
    with refused("does not add up to per_category.csv"):
        read_run(tmp_path)


def average(first, second):
    return compute_intervals([resample(run, num_resamples=5) for run in (first, second)])


@pytest.mark.parametrize("combine", [compare, average, find_changes])
def test_other_categories_or_images_are_refused(tmp_path, combine):
    first, more = (make_run(tmp_path / f"{n}", make_images(n, 5, seed=1)) for n in (4, 5))
    other = make_run(tmp_path / "b", make_images(4, 5, seed=1), make_categories(2, 3))
    with refused("4 and ", "b have different categories (5 and 5)"):
        combine(first, other)
    with refused("different images (4 and 5; image 104 is in one of them only)"):
        combine(first, more)


def test_worst_and_best(tmp_path):
    def image(iou, tp, fp, fn):
        return PanopticStats(*(np.array(v) for v in (iou, tp, fp, fn)))

    perfect = image([1.0, 0.0, 1.0], [1, 0, 1], [0, 0, 0], [0, 0, 0])
    half = image([1.0, 0.0, 0.0], [1, 0, 0], [0, 0, 1], [0, 0, 1])  # a right thing, wrong stuff
    wrong = image([0.0, 0.0, 0.0], [0, 0, 0], [1, 0, 0], [0, 0, 0])
    empty = PanopticStats.zeros(3)  # perfect until something is found in it
    first = (perfect, perfect, half, wrong, half, empty)
    second = (wrong, half, perfect, perfect, half, wrong)
    runs = [
        make_run(tmp_path / name, dict(enumerate(images, start=1)), make_categories(2, 1))
        for name, images in (("a", first), ("b", second))
    ]
    changes = find_changes(*runs)
    losses, gains = split_changes(changes, 5)
    assert [*losses["change"].items()] == [(1, -1.0), (6, -1.0), (2, -0.5)]
    assert [*gains[["before", "after"]].itertuples()] == [(4, 0.0, 1.0), (3, 0.5, 1.0)]
    assert [part.index.tolist() for part in split_changes(changes, 1)] == [[1], [4]]
    assert find_changes(runs[0], runs[0]).empty


def test_pictures_are_found_by_the_id_in_their_name(tmp_path):
    draw_pictures(tmp_path / "a", image_ids=(7, 8), shade=10)
    draw_pictures(tmp_path / "b", image_ids=(8, 9), shade=200)
    source, common = read_from_folders({name: tmp_path / name / "pictures" for name in "ab"})
    assert common == {8}
    pictures = source(8)
    assert list(pictures) == ["a", "b"]
    assert pictures["b"].shape == (60, 240, 3)
    assert read_from_folders({"none": tmp_path / "none"})[1] == set()
