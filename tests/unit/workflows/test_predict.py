from pathlib import Path

import pytest

from refine.errors import RefineError
from refine.workflows.predict_images import choose_image_ids, find_images


def _touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_images_of_a_file_a_folder_and_a_glob(tmp_path):
    folder = _touch(tmp_path / "in", "b.jpg", "a.PNG", "notes.txt")
    names = ["a.PNG", "b.jpg"]
    assert [p.name for p in find_images(str(folder))] == names
    assert [p.name for p in find_images(str(folder / "b.jpg"))] == ["b.jpg"]
    assert [p.name for p in find_images(str(folder / "*.[jP]*"))] == names


def test_no_images(tmp_path):
    with pytest.raises(RefineError, match="no images there"):
        find_images(str(_touch(tmp_path / "in", "notes.txt")))


def test_two_images_of_one_name_would_overwrite_each_other(tmp_path):
    with pytest.raises(RefineError, match="'a'"):
        find_images(str(_touch(tmp_path / "in", "a.jpg", "a.png")))


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["000000000139.jpg", "000000000285.jpg"], [139, 285]),
        (["000000000139.jpg", "holiday.jpg"], [1, 2]),
        (["1.jpg", "01.jpg"], [1, 2]),
    ],
)
def test_image_ids(names, ids):
    assert choose_image_ids([Path(n) for n in names]) == ids
