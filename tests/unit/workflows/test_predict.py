import json
from pathlib import Path

from make.errors import refused
from refine.workflows.prediction_sources import (
    choose_image_ids,
    choose_png_names,
    find_images,
    keep_listed,
)


def test_images_of_a_file_a_folder_and_a_glob(tmp_path):
    for folder in ("sub", ".hidden", "old/overlays"):
        (tmp_path / folder).mkdir(parents=True)
    for name in (
        "b.jpg", "a.PNG", "notes.txt", "._a.jpg", "sub/c.gif", ".hidden/d.jpg", "old/panoptic.json",
        "old/overlays/e.png",
    ):  # fmt: skip
        (tmp_path / name).touch()
    for source, names in (
        ("", ["a.PNG", "b.jpg", "sub/c.gif"]), ("b.jpg", ["b.jpg"]), ("._a.jpg", ["._a.jpg"]),
        ("*.[jP]*", ["a.PNG", "b.jpg"]), ("**/*.gif", ["sub/c.gif"]),
    ):  # fmt: skip
        found = find_images(str(tmp_path / source))
        assert [*found] == names
        assert [*found.values()] == [tmp_path / name for name in names]
    with refused("no images there"):
        find_images(str(tmp_path / "old"))


def test_numbers_in_names_count_as_numbers(tmp_path):
    names = ["b/x.png", "f1.png", "f2.png", "f02x.png", "f10.png", "f10/a.png", "f²3.png"]
    for name in reversed(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [*find_images(str(tmp_path))]
    assert sorted(found) == sorted(names)
    assert [n for n in found if n in ("f1.png", "f2.png", "f10.png")] == [
        "f1.png", "f2.png", "f10.png",
    ]  # fmt: skip
    assert found.index("b/x.png") < found.index("f10/a.png")


def test_images_that_a_json_lists_are_kept(tmp_path):
    path = tmp_path / "info.json"
    path.write_text(json.dumps({"images": [{"id": 3, "file_name": "a.jpg"}]}))
    images = {name: Path(name) for name in ("a.png", "b.png", "s/a.png")}
    assert [*keep_listed(images, path)] == ["a.png", "s/a.png"]
    with refused("info.json: lists none of the images"):
        keep_listed({"b.png": Path("b.png")}, path)


def test_every_image_has_a_result_of_its_own():
    names = ["a.jpg", "b.jpg", "b.PNG", "s/a.jpg", "x.jpg", "x.jpg.jpg"]
    assert choose_png_names(names) == [
        "a.png", "b.jpg.png", "b.PNG.png", "s/a.png", "x.png", "x.jpg.png",
    ]  # fmt: skip
    assert len(set(choose_png_names(["b.gif", "b.jpg", "b.jpg.bmp"]))) == 3


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
    with refused("img_2.jpg", "one image for it and for", "img_2.gif"):
        choose_image_ids([Path("img_2.jpg"), Path("img_2.gif")], ids_from=path)
    path.write_text(json.dumps({"images": images * 2}))
    with refused("val.json: images[4]: 'id' is 7; the list has it twice"):
        choose_image_ids(paths, ids_from=path)
