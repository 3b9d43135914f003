import json

import numpy as np
import pytest

from make.dataset import BIG_CAR_ID, CAR, CAT_ID, CATEGORIES, panoptic_json
from make.errors import refused
from refine.categories import CategoryTable
from refine.coco_format.annotations import load_panoptic_json, load_panoptic_results

TABLE = CategoryTable.of(CATEGORIES)


def _load(tmp_path, content, load=load_panoptic_json):
    path = tmp_path / "panoptic_val2017.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return load(path)


def _load_results(path):
    return load_panoptic_results(path, TABLE)


def _changed(change):
    content = panoptic_json()
    change(content)
    return content


def test_columns_and_segments_hold_what_the_file_says(tmp_path):
    annotations = _load(tmp_path, panoptic_json())
    assert annotations.image_ids.tolist() == [1, 2, 3]
    assert annotations.image_names.tolist() == ["0001.jpg", "0002.jpg", "0003.jpg"]
    assert annotations.file_names.tolist() == ["0001.png", "0002.png", "0003.png"]
    assert annotations.sizes.tolist() == [[8, 12], [10, 6], [5, 5]]
    assert [s.name for s in annotations.categories.categories] == ["car", "cat", "grass", "sky"]
    # nothing is kept as Python objects
    others = {"source", "sha256", "categories", "is_chosen"}
    columns = [getattr(annotations, name) for name in set(annotations.__slots__) - others]
    assert all(isinstance(c, np.ndarray) and c.dtype != object for c in columns)
    cat, grass, car, crowd = annotations.segments(0)
    assert (cat.id, cat.is_thing, cat.area, cat.is_crowd) == (CAT_ID, True, 15, False)
    assert (grass.category, grass.is_thing) == (2, False)
    assert car.area == 12
    assert (crowd.category, crowd.is_crowd) == (CAR, True)
    assert [s.id for s in annotations.segments(2)] == [BIG_CAR_ID]


def test_annotations_without_segments_and_in_any_order_are_fine(tmp_path):
    content = _changed(lambda c: c["annotations"][1].update(segments_info=[]))
    content["annotations"].reverse()
    annotations = _load(tmp_path, content)
    assert annotations.file_names.tolist() == ["0001.png", "0002.png", "0003.png"]
    assert annotations.segments(1) == ()
    assert [s.area for s in annotations.segments(2)] == [25]
    assert _load(tmp_path, content, _load_results).segments[2] == ()


def _first(content):
    return content["annotations"][0]


def _segment(content):
    return _first(content)["segments_info"][1]


BAD_RESULTS = {
    "unknown category": (lambda c: _segment(c).update(category_id=4), "'category_id' is 4; add it"),
    "segment id twice": (lambda c: _segment(c).update(id=CAT_ID), "image 1.*twice"),
    "segment id 0": (lambda c: _segment(c).update(id=0), "image 1.*'id' is 0"),
    "segment id too large": (lambda c: _segment(c).update(id=2**24), "'id' is 16777216"),
    "huge segment id": (lambda c: _segment(c).update(id=10**30), "'id' is 1000"),
    "segment id of text": (lambda c: _segment(c).update(id="7"), "'id' is '7'.*int"),
    "segment id missing": (lambda c: _segment(c).pop("id"), "segments_info[1]: 'id' is missing"),
    "no object": (lambda c: _first(c).update(segments_info=[3]), "segments_info[0] is 3"),
    "no list": (lambda c: _first(c).update(segments_info={}), "'segments_info' is {}"),
    "annotated twice": (
        lambda c: _first(c).update(image_id=2),
        "annotations[1]: 'image_id' is 2.*twice",
    ),
    "annotations missing": (lambda c: c.pop("annotations"), "'annotations' is missing"),
}
BAD = BAD_RESULTS | {
    "negative area": (lambda c: _segment(c).update(area=-5), "'area' is -5"),
    "fractional area": (lambda c: _segment(c).update(area=5.5), "'area' is 5.5"),
    "iscrowd 2": (lambda c: _segment(c).update(iscrowd=2), "'iscrowd' is 2"),
    "image id twice": (lambda c: c["images"][1].update(id=1), "images[1]: 'id' is 1.*twice"),
    "no image": (lambda c: c["images"].pop(), "image id 3 has no entry in 'images'"),
    "no annotation": (lambda c: c["annotations"].pop(), "image id 3 has no entry in 'annotations'"),
    "no images": (lambda c: c.update(images=[], annotations=[]), "'images' is empty"),
    "images missing": (lambda c: c.pop("images"), "'images' is missing"),
    "categories missing": (lambda c: c.pop("categories"), "'categories' is missing"),
    "images are no list": (lambda c: c.update(images={}), "'images' is missing or no list"),
    "image is no object": (lambda c: c["images"].insert(1, 5), "images[1] is 5"),
    "image id of text": (lambda c: c["images"][0].update(id="a"), "images[0]: 'id' is 'a'"),
    "negative image id": (lambda c: c["images"][0].update(id=-1), "images[0]: 'id' is -1"),
    "height missing": (lambda c: c["images"][2].pop("height"), "images[2]: 'height' is missing"),
    "height 0": (lambda c: c["images"][2].update(height=0), "images[2]: 'height' is 0"),
    "name missing": (lambda c: c["images"][0].pop("file_name"), "'file_name' is missing"),
    "name is a number": (lambda c: c["images"][0].update(file_name=3), "'file_name' is 3"),
    "too many pixels": (lambda c: c["images"][2].update(height=2**20, width=2**20), "more than"),
    "a name of a lone surrogate": (lambda c: c["images"][0].update(file_name="\ud800"), "relative"),
    "color of infinity": (lambda c: c["categories"][0].update(color=[1e999] * 3), "categories[0]"),
    "category id 1.5": (lambda c: c["categories"][0].update(id=1.5), "categories[0]"),
    "category of two lines": (lambda c: c["categories"][0].update(name="a\nb"), "categories[0]"),
    "category without name": (lambda c: c["categories"][0].pop("name"), "categories[0]"),
}


@pytest.mark.parametrize("name", BAD)
def test_contradictions_are_named(tmp_path, name):
    change, expected = BAD[name]
    for load in [load_panoptic_json, _load_results][: 2 if name in BAD_RESULTS else 1]:
        with refused("panoptic_val2017.json", *expected.split(".*")):
            _load(tmp_path, _changed(change), load)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../0001.jpg", "a/../../b.jpg", "C:\\a.jpg", "C:a.jpg", "a\\b.jpg", ""]
)
@pytest.mark.parametrize("key", ["images", "annotations"])
def test_names_that_lead_outside_are_refused(tmp_path, key, name):
    with refused("panoptic_val2017.json", "relative path"):
        _load(tmp_path, _changed(lambda c: c[key][1].update(file_name=name)))


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"images": [', "\x00", "[" * 100_000, "{'images': []}"]
)
def test_what_is_no_json_object_is_refused(tmp_path, text):
    with refused("panoptic_val2017.json", "JSON"):
        _load(tmp_path, text)


def test_a_byte_order_mark_is_fine_nothing_or_a_missing_file_is_not(tmp_path):
    assert len(_load(tmp_path, "\ufeff" + json.dumps(panoptic_json()))) == 3
    with refused("panoptic_val2017.json", "nothing to score"):
        _load(tmp_path, {"annotations": []}, _load_results)
    with refused("nothing.json: cannot be read"):
        load_panoptic_json(tmp_path / "nothing.json")
