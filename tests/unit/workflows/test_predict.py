import json
from pathlib import Path

import pytest

from make.errors import refused
from refine.workflows.predict_images import choose_image_ids, find_images


def test_images_of_a_file_a_folder_and_a_glob(tmp_path):
    both = ["a.PNG", "b.jpg"]
    for name in ("b.jpg", "a.PNG", "notes.txt"):
        (tmp_path / name).touch()
    for source, names in (("", both), ("b.jpg", ["b.jpg"]), ("*.[jP]*", both)):
        assert [p.name for p in find_images(str(tmp_path / source))] == names


@pytest.mark.parametrize(
    ("names", "message"), [(["notes.txt"], "no images there"), (["a.jpg", "a.png"], "'a'")]
)
def test_no_images_and_two_whose_results_would_have_one_name(tmp_path, names, message):
    for name in names:
        (tmp_path / name).touch()
    with refused(message):
        find_images(str(tmp_path))


def test_image_ids_are_coco_s_if_every_name_is_one():
    for other, ids in (("000000000285.jpg", [139, 285]), ("holiday.jpg", [1, 2])):
        assert choose_image_ids([Path("000000000139.jpg"), Path(other)]) == ids
    assert choose_image_ids([Path("1.jpg"), Path("01.jpg")]) == [1, 2]


def test_ids_of_a_json_belong_to_names(tmp_path):
    path = tmp_path / "val.json"
    names = {7: "img_10.jpg", 2: "img_2.jpg", 5: "a/x.jpg", 6: "b/x.jpg"}
    images = [{"id": i, "file_name": name} for i, name in names.items()]
    path.write_text(json.dumps({"images": images}))
    paths = [Path(p) for p in ("d/img_10.png", "img_2.jpg", "d/b/x.png", "a/x.jpg")]
    assert choose_image_ids(paths, ids_from=path) == [7, 2, 6, 5]
    for stranger, expected in (("y.jpg", "no image"), ("c/x.jpg", "no image")):
        with refused(stranger, expected, "val.json"):
            choose_image_ids([Path(stranger)], ids_from=path)
    path.write_text(json.dumps({"images": images * 2}))
    with refused("val.json: images[4]: 'id' is 7; the list has it twice"):
        choose_image_ids(paths, ids_from=path)
