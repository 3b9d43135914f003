import json
import logging

import numpy as np
import pytest

from make.dataset import instances_json, panoptic_json, run_lengths, write_tree
from make.errors import refused
from refine.coco_format.annotations import parse_panoptic_json
from refine.coco_format.instances import parse_instances_json
from refine.coco_format.layout import open_dataset
from refine.coco_format.outline_checks import find_misfits
from refine.errors import Findings

SOURCE = "instances_val2017.json"


def _load(instances, panoptic=None, **options):
    annotations = parse_panoptic_json(
        json.dumps(panoptic or panoptic_json()).encode(), source="panoptic_val2017.json"
    )
    data = json.dumps(instances).encode()
    return annotations, parse_instances_json(data, annotations, source=SOURCE, **options)


def _images():
    return [dict(image) for image in panoptic_json()["images"]]


def _shift(images, annotations, by):
    for image in images:
        image["id"] += by
    for annotation in annotations:
        annotation["image_id"] += by


def _swap_names(images, _):
    images[0]["file_name"], images[2]["file_name"] = "0003.jpg", "0001.jpg"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda images, a: _shift(images, a, 1000), "'0001' has id 1001, but in .* it has id 1;"),
        (lambda images, a: _shift(images, a, -1), "'0001' has id 0, but in .* it has id 1;"),
        (_swap_names, "'0003' has id 1, but in .* id 1 is '0001';"),
        (lambda images, a: images[1].update(file_name="x.jpg"), "'x' has id 2, .* id 2 is '0002'"),
        (lambda images, a: images[1].update(width=7), "7 x 10 pixels, 6 x 10 in"),
    ],
)
def test_another_numbering_or_size_is_refused(change, expected):
    content = instances_json() | {"images": _images()}
    change(content["images"], content["annotations"])
    with refused(SOURCE, "images[", *expected.split(".*")):
        _load(content)


def test_other_folders_endings_and_more_images_are_fine():
    content = instances_json() | {"images": _images()}
    for image in content["images"]:
        image["file_name"] = f"x/{image['file_name'][:-4]}.png"
    content["images"].append({"id": 9, "file_name": "9.jpg", "height": 4, "width": 4})
    content["annotations"].append(content["annotations"][0] | {"image_id": 9, "id": 9})
    annotations, instances = _load(content)
    assert instances.ids.tolist() == [1, 2, 3, 4]
    assert [m.names for m in find_misfits(annotations, instances)] == [[], [], [], []]


def test_categories_of_another_numbering_are_refused():
    content = instances_json()
    content["categories"][0]["name"] = "cat"
    with refused(SOURCE, "categories[0]: 'cat' has id 3, but in", "id 3 is 'car'"):
        _load(content)
    content["categories"][0]["name"] = "automobile"  # a name of its own is no contradiction
    _load(content)


def _empty_mask():
    return {"size": [8, 12], "counts": run_lengths(np.zeros((8, 12), bool))}


@pytest.mark.parametrize(
    ("change", "place", "name"),
    [
        (lambda a: a[0].update(image_id=77), 0, "image id 77"),
        (lambda a: a.pop(3), 1, "image id 3"),
        (lambda a: a[1].update(segmentation=[]), 2, "annotation id 2 of image id 1"),
        (lambda a: a[1].update(segmentation=[[3, 3, 4, 4]]), 2, "annotation id 2 of image id 1"),
        (lambda a: a[2].update(segmentation=_empty_mask()), 2, "annotation id 3 of image id 1"),
        (lambda a: a[0].update(bbox=[5, 5, 3, 3]), 3, "annotation id 1 of image id 1"),
        (lambda a: a[2].update(bbox=[0, 0, 12, 8]), 3, "annotation id 3 of image id 1"),
        (lambda a: a[3].update(segmentation=[[90, 90, 95, 90, 95, 95]]), 3, "annotation id 4 of"),
    ],
)
def test_each_misfit_is_named(change, place, name):
    content = instances_json()
    change(content["annotations"])
    found = [m.names for m in find_misfits(*_load(content))]
    assert len(found.pop(place)) == 1
    assert found == [[]] * 3
    assert find_misfits(*_load(content))
    assert next(m for m in find_misfits(*_load(content)) if m.names).names[0].startswith(name)


def test_an_outline_fits_its_box_down_to_half_of_their_union():
    content = instances_json()
    car = content["annotations"][0]  # 4 x 4 pixels at (1, 2)
    for box, fits in (([1, 2, 8, 4], True), ([1, 2, 8.1, 4], False), ([-1, 0, 4, 4], True)):
        car["bbox"] = box
        assert [not m.names for m in find_misfits(*_load(content))] == [True] * 3 + [fits]


@pytest.mark.parametrize(("count", "is_refused"), [(0, False), (1, False), (2, True)])
def test_a_quarter_of_misfits_is_reported_and_more_are_refused(tmp_path, caplog, count, is_refused):
    content = instances_json()  # of four
    for annotation in content["annotations"][:count]:
        annotation["segmentation"] = []
    root = write_tree(tmp_path, "val2017", instances=content)
    line = f"{count} of 4 instances have no outline (annotation id 1 of image id 1"
    if is_refused:
        with refused(SOURCE, line, "annotation id 2 of image id 1)"):
            open_dataset(root, "val2017")
        return
    with caplog.at_level(logging.WARNING):
        open_dataset(root, "val2017")
    assert (line in caplog.text) == (count == 1)


def test_all_problems_of_both_files_are_collected(tmp_path):
    panoptic, content = panoptic_json(), instances_json()
    panoptic["annotations"][0]["segments_info"][0]["iscrowd"] = 2
    panoptic["annotations"][0]["segments_info"][1]["area"] = "x"
    del panoptic["annotations"][2]["segments_info"][0]["category_id"]
    panoptic["images"].append({"id": 9, "height": 0, "width": 5, "file_name": 3})
    content["annotations"][0]["bbox"] = [1, 2]
    content["annotations"][1]["category_id"] = 92
    content["annotations"].append(5)
    findings = Findings()
    root = write_tree(tmp_path, "val2017", panoptic=panoptic, instances=content)
    files = open_dataset(root, "val2017", report=findings)
    assert findings.counts == {
        "images[] 'height': it has to lie in 1 .. 1048576": 1,
        "images[] 'file_name': give it a str": 1,
        "segments_info[] 'iscrowd': it has to lie in 0 .. 1": 1,
        "segments_info[] 'area': give it a int or bool": 1,
        "segments_info[] 'category_id' is missing": 1,
        "annotations[] 'bbox': give it [x, y, width, height]": 1,
        "annotations[] 'category_id': instances have to be of a thing category": 1,
        "annotations[] is no object": 1,
    }
    assert files.annotations.image_ids.tolist() == [1, 2, 3]
    assert [len(files.annotations.segments(k)) for k in range(3)] == [2, 1, 0]
    assert files.instances.ids.tolist() == [3, 4]
