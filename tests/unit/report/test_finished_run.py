import pytest

from make.runs import make_categories, make_images, write_run
from refine.errors import RefineError
from refine.metrics.functional import PanopticStats
from refine.report.finished_run import check_comparable, read_run

CATEGORIES = make_categories(2, 3)


def test_a_run_is_read_back(tmp_path):
    images = make_images(6, 5, seed=1)
    images[50] = PanopticStats.zeros(5)  # evaluated, nothing in it
    run = read_run(write_run(tmp_path / "run", images, CATEGORIES))
    assert run.image_ids.tolist() == sorted(images)
    for k, image_id in enumerate(run.image_ids.tolist()):
        image = images[image_id]
        assert run.iou[k].tolist() == image.iou.tolist()
        assert run.halves[k].tolist() == (image.tp + image.fp / 2 + image.fn / 2).tolist()
    assert run.categories == CATEGORIES
    assert run.metrics["num_images"] == 7


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(RefineError, match=r"nowhere: no such folder; name the folder"):
        read_run(tmp_path / "nowhere")


MISSING = {
    "DONE": "the run has not finished",
    "metrics.json": r"metrics\.json: no such file",
    "per_category.csv": r"per_category\.csv: no such file",
    "per_image.csv": r"per_image\.csv: no such file; evaluate anew",
}
BROKEN = [("metrics.json", text, r"metrics\.json: no JSON object") for text in ("[1]", "{", "")]
BROKEN += [
    ("per_category.csv", text, r"per_category\.csv: malformed")
    for text in ("", "category_id,name\n1,c0\n", "category_id,name,isthing\nx,a,1")
]


@pytest.mark.parametrize(
    ("name", "text", "message"), [*((k, None, v) for k, v in MISSING.items()), *BROKEN]
)
def test_a_missing_or_broken_file_is_named(tmp_path, name, text, message):
    write_run(tmp_path, make_images(2, 5, seed=1), CATEGORIES)
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(RefineError, match=message) as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_files_of_different_evaluations_are_refused(tmp_path):
    write_run(tmp_path, make_images(4, 5, seed=1), CATEGORIES)
    other = write_run(tmp_path / "other", make_images(4, 5, seed=2), CATEGORIES)
    (other / "per_image.csv").replace(tmp_path / "per_image.csv")
    with pytest.raises(RefineError, match=r"does not add up to per_category\.csv"):
        read_run(tmp_path)


def test_other_categories_are_refused(tmp_path):
    first = read_run(write_run(tmp_path / "a", make_images(4, 5, seed=1), CATEGORIES))
    other = write_run(tmp_path / "b", make_images(4, 5, seed=1), make_categories(3, 2))
    with pytest.raises(RefineError, match=r"a and .*b have different categories \(5 and 5\)"):
        check_comparable(first, read_run(other))


def test_other_images_are_refused(tmp_path):
    first = read_run(write_run(tmp_path / "a", make_images(4, 5, seed=1), CATEGORIES))
    other = read_run(write_run(tmp_path / "b", make_images(5, 5, seed=1), CATEGORIES))
    with pytest.raises(RefineError, match=r"\(4 and 5; image 104 is in one of them only\)"):
        check_comparable(first, other)
