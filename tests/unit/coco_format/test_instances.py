import hashlib
import json
import logging

import numpy as np
import pytest

from make.dataset import CAR, CAT, instances_json, panoptic_json
from make.errors import refused
from refine.coco_format.annotations import parse_panoptic_json
from refine.coco_format.instances import parse_instances_json
from refine.coco_format.json_entries import Ragged
from refine.ops.outlines import decode_mask
from refine.types import CodedMask

PANOPTIC = parse_panoptic_json(json.dumps(panoptic_json()).encode(), source="panoptic.json")


def _load(content):
    data = json.dumps(content).encode()
    return parse_instances_json(data, PANOPTIC, source="instances_val2017.json")


def _changed(change):
    content = instances_json()
    change(content["annotations"])
    return content


def test_annotations_of_an_image():
    instances = _load(instances_json())
    assert len(instances) == 4
    car, cat, crowd = instances.of_image(1)
    assert [a.id for a in (car, cat, crowd)] == [1, 2, 3]
    assert instances.sha256 == hashlib.sha256(json.dumps(instances_json()).encode()).hexdigest()
    assert (car.category, car.is_crowd, car.box) == (CAR, False, (1, 2, 5, 6))
    assert (cat.category, cat.box) == (CAT, (3, 4, 8, 7))
    (polygon,) = car.outline
    assert polygon.tolist() == [[1, 2], [5, 2], [5, 6], [1, 6]]
    assert crowd.is_crowd
    assert isinstance(crowd.outline, CodedMask)
    mask = decode_mask(crowd.outline).mask
    assert mask.shape == (8, 12)
    assert mask.sum() == mask[0:2, 9:12].sum() == 6
    text = crowd.outline.counts.decode()
    again = _load(_changed(lambda a: a[2]["segmentation"].update(counts=text)))
    assert (decode_mask(again.of_image(1)[2].outline).mask == mask).all()
    # nothing is kept as Python objects
    columns = [getattr(instances, n) for n in set(instances.__slots__) - {"source", "sha256"}]
    arrays = [c.values if isinstance(c, Ragged) else c for c in columns]
    assert all(isinstance(a, np.ndarray) and a.dtype != object for a in arrays)
    # an image without annotations has none
    assert instances.of_image(2) == _load({"annotations": []}).of_image(1) == ()
    # the order of the file does not matter to other images
    instances = _load(_changed(lambda a: a.reverse()))
    assert [a.is_crowd for a in instances.of_image(1)] == [True, False, False]
    assert instances.of_image(3)[0].box == (0, 0, 5, 5)


def test_several_polygons_with_decimals_and_short_ones(caplog):
    two = [[100.1, 473.53, 612.67, 375.37, 0.3, 0.7], [3, 3], [3, 3, 5, 3, 5, 5, 3, 5]]
    with caplog.at_level(logging.WARNING):
        instances = _load(_changed(lambda a: a[3].update(segmentation=two)))
    assert [p.ravel().tolist() for p in instances.of_image(3)[0].outline] == two[::2]
    assert [len(a.outline) for a in instances.of_image(1)[:2]] == [1, 1]
    assert "1 polygons" in caplog.text


def test_one_polygon_may_be_flat_and_iscrowd_missing():
    corners = [3, 3, 5.5, 3, 5, 5, 3, 5]

    def change(annotations):
        annotations[3].update(segmentation=corners)
        del annotations[3]["iscrowd"]

    (annotation,) = _load(_changed(change)).of_image(3)
    assert [polygon.ravel().tolist() for polygon in annotation.outline] == [corners]
    assert not annotation.is_crowd


BAD = {
    "not in order": (lambda a: a[3].update(image_id=1, category_id=99), "annotations[3].*is 99"),
    "unknown category": (lambda a: a[1].update(category_id=99), "'category_id' is 99"),
    "stuff": (lambda a: a[1].update(category_id=92), "'category_id' is 92.*thing"),
    "odd polygon": (lambda a: a[1].update(segmentation=[[1, 2, 3]]), "'segmentation'.*polygons"),
    "odd flat polygon": (lambda a: a[1].update(segmentation=[1, 2, 3, 4, 5]), "polygons"),
    "flat text": (lambda a: a[1].update(segmentation=[1, 2, 3, "4", 5, 6]), "finite numbers"),
    "text in a polygon": (lambda a: a[1].update(segmentation=[["a"] * 6]), "finite numbers"),
    "not finite": (lambda a: a[1].update(segmentation=[[float("nan")] * 6]), "finite numbers"),
    "outline of text": (lambda a: a[1].update(segmentation="abc"), "'segmentation' is 'abc'"),
    "no outline": (lambda a: a[1].pop("segmentation"), "'segmentation' is missing"),
    "runs too short": (lambda a: a[2]["segmentation"].update(counts=[5]), "do not cover"),
    "runs negative": (lambda a: a[2]["segmentation"].update(counts=[-1, 97]), "do not cover"),
    "runs huge": (lambda a: a[2]["segmentation"].update(counts=[10**30]), "'segmentation'"),
    "runs of text": (lambda a: a[2]["segmentation"].update(counts=["a"]), "integers"),
    "runs broken": (lambda a: a[2]["segmentation"].update(counts="zzz"), "run lengths"),
    "runs without size": (lambda a: a[2]["segmentation"].pop("size"), "size None.*[8, 12]"),
    "runs of another size": (
        lambda a: a[2]["segmentation"].update(size=[12, 8]),
        "[12, 8].*[8, 12]",
    ),
    "runs without counts": (lambda a: a[2]["segmentation"].pop("counts"), "counts"),
    "far away": (lambda a: a[1].update(segmentation=[[1e9] * 6]), "finite numbers"),
    "huge": (lambda a: a[1].update(segmentation=[[10**400] * 6]), "finite numbers"),
    "long": (lambda a: a[1].update(segmentation=[[0, 0, 9e6, 0] * 2]), "20000 pixels long"),
    "huge box": (lambda a: a[0].update(bbox=[1, 2, 10**400, 4]), "'bbox'"),
    "size of text": (lambda a: a[2]["segmentation"].update(size=["8", "12"]), "'segmentation'"),
    "short box": (lambda a: a[0].update(bbox=[1, 2, 3]), "'bbox' is [1, 2, 3]"),
    "negative box": (lambda a: a[0].update(bbox=[1, 2, -3, 4]), "'bbox'"),
    "box of text": (lambda a: a[0].update(bbox=[1, 2, "3", 4]), "'bbox'"),
    "no id": (lambda a: a[0].pop("id"), "'id' is missing"),
    "iscrowd 2": (lambda a: a[0].update(iscrowd=2), "'iscrowd' is 2"),
    "image id of text": (lambda a: a[0].update(image_id="1"), "'image_id' is '1'"),
}


@pytest.mark.parametrize(("change", "expected"), BAD.values(), ids=BAD)
def test_bad_annotations_are_named(change, expected):
    with refused("instances_val2017.json: annotations[", *expected.split(".*")):
        _load(_changed(change))
