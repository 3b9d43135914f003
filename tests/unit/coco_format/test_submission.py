"""The zip for COCO's server: what the checker refuses."""

import json
import zipfile

import numpy as np
import pytest

from make.errors import refused
from make.pictures import CATEGORIES
from refine.coco_format.annotations import load_image_table
from refine.coco_format.png import encode_segment_png
from refine.coco_format.submission import check_submission, name_submission

NAME = "panoptic_test2017_x_results"
SEGMENT_MAP = np.repeat([0, 3, 70_000], 2)[None].repeat(4, 0).astype(np.int32)


@pytest.fixture
def images(tmp_path):
    entries = [{"id": k, "file_name": f"{k:04d}.jpg", "height": 4, "width": 6} for k in (12, 5)]
    path = tmp_path / "image_info_test2017.json"
    path.write_text(json.dumps({"images": entries}))
    return load_image_table(path)


def annotations():
    infos = [{"id": 3, "category_id": 1}, {"id": 70_000, "category_id": 3}]
    return [
        {"image_id": k, "file_name": f"{k:04d}.png", "segments_info": [dict(i) for i in infos]}
        for k in (5, 12)
    ]


def make_zip(folder, entries, pngs, *, json_name=NAME):
    path = folder / f"{NAME}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{json_name}.json", json.dumps({"annotations": entries}))
        for name, segment_map in pngs.items():
            archive.writestr(f"{NAME}/{name}.png", encode_segment_png(segment_map))
    return path


def test_a_zip_of_the_official_form_is_accepted(images, tmp_path):
    pngs = {"0005": SEGMENT_MAP, "0012": SEGMENT_MAP}
    check_submission(make_zip(tmp_path, annotations(), pngs), images, CATEGORIES)


@pytest.mark.parametrize(
    ("change", "pngs", "expected"),
    [
        (lambda a: a.pop(), {}, "must have each of the 2 images once"),
        (lambda a: a.append(a[0]), {}, "must have each of the 2 images once"),
        (lambda a: a[0].update(image_id=6), {}, "must have each of the 2 images once"),
        (lambda a: a[0].update(file_name="5.png"), {}, "5.png is in one of zip and JSON alone"),
        (lambda a: None, {"0099": SEGMENT_MAP}, "0099.png is in one of zip and JSON alone"),
        (lambda a: None, {"0005": SEGMENT_MAP[:3]}, "0005.png: 6 x 3 pixels"),
        (lambda a: None, {"0005": SEGMENT_MAP * 0}, "0005.png: the ids of the PNG are not those"),
        (lambda a: a[0]["segments_info"].pop(), {}, "0005.png: the ids of the PNG are not those"),
        (lambda a: a[0]["segments_info"].append(a[0]["segments_info"][0]), {}, "the ids of the"),
        (lambda a: a[1]["segments_info"][0].update(category_id=9), {}, "no category has the id 9"),
    ],
)  # fmt: skip
def test_a_zip_that_the_server_would_not_take_is_refused(images, tmp_path, change, pngs, expected):
    entries = annotations()
    change(entries)
    path = make_zip(tmp_path, entries, {"0005": SEGMENT_MAP, "0012": SEGMENT_MAP} | pngs)
    with refused(f"{NAME}.zip: ", expected):
        check_submission(path, images, CATEGORIES)


def test_a_json_of_another_name_and_pngs_of_other_names_are_refused(images, tmp_path):
    pngs = {"0005": SEGMENT_MAP, "0012": SEGMENT_MAP}
    with refused(f"no {NAME}.json in it"):
        check_submission(
            make_zip(tmp_path, annotations(), pngs, json_name="results"), images, CATEGORIES
        )
    entries = annotations()
    entries[0]["file_name"] = "x.png"
    with refused("x.png: has to be called as 0005.jpg"):
        check_submission(
            make_zip(tmp_path, entries, {"x": SEGMENT_MAP, "0012": SEGMENT_MAP}), images, CATEGORIES
        )


def test_the_name_states_split_and_algorithm(tmp_path):
    for name in ("image_info_test-dev2017.json", "panoptic_val2017.json"):
        split = name.partition("_")[2].replace("info_", "").removesuffix(".json")
        assert name_submission("A.1", tmp_path / name) == f"panoptic_{split}_A.1_results"
    with refused("submission=a/b: letters, digits"):
        name_submission("a/b", tmp_path / "image_info_test2017.json")
    with refused("the split is not in its name"):
        name_submission("a", tmp_path / "images.json")
