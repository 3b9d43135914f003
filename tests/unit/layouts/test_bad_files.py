"""Files of other layouts that are damaged, contradictory or missing are named in one line."""

import json

import numpy as np
import pytest
from PIL import Image

from make.errors import refused
from make.layouts import (
    rectangle_scenes,
    write_cityscapes,
    write_label_pngs,
    write_labelme,
    write_panoptic,
    write_two_channels,
)
from refine.config import compose
from refine.workflows.convert_annotations import open_layout


def open_from(name, *overrides):
    return open_layout(
        compose("convert_dataset", [f"from={name}", "out=x", "split=own", *overrides])
    )


def paths(root, **names):
    return [f"{key}={root}/{name}" for key, name in names.items()]


@pytest.fixture
def labelme(tmp_path):
    """What changes the only file of labelme and reads it."""
    scene = rectangle_scenes(0, count=2, crowds=False)[1]
    write_labelme(tmp_path, [scene])
    path = tmp_path / "photos/photo 1.json"

    def read(change, *overrides):
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))
        given = paths(tmp_path, annotations="photos", table="table.csv")
        return open_from("labelme", *given, *overrides).read(0)

    return read


def _set(document, **values):
    document["shapes"][3].update(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: _set(d, label="carr"), ["shapes[3]", "'label' is 'carr'", "'car'", "void="]),
        (lambda d: _set(d, label=7), ["shapes[3]", "'label' is 7"]),
        (lambda d: _set(d, points=[[1, 2, 3]]), ["shapes[3]", "'points'", "[[x, y], ...]"]),
        (lambda d: _set(d, points=[[1, "2"]] * 3), ["shapes[3]", "'points'", "numbers"]),
        (lambda d: _set(d, points=[[1, float("nan")]] * 3), ["shapes[3]", "'points'", "numbers"]),
        (lambda d: _set(d, points=[[0, 0], [1e6, 0]] * 999), ["shapes[3]", "'points'", "long"]),
        (lambda d: _set(d, shape_type="blob"), ["shapes[3]", "'blob'", "polygon", "remove"]),
        (lambda d: _set(d, shape_type="circle"), ["shapes[3]", "centre"]),
        (lambda d: _set(d, shape_type="mask"), ["shapes[3]", "no 'mask'"]),
        (lambda d: _set(d, shape_type="mask", mask="*"), ["shapes[3]", "base64"]),
        (lambda d: _set(d, shape_type="mask", mask="AAAA"), ["shapes[3]", "not a PNG"]),
        (lambda d: d.update(imageHeight=None), ["photo 1.json", "'imageHeight' is None"]),
        (lambda d: d.update(imageHeight="9"), ["photo 1.json", "'imageHeight' is '9'"]),
        (lambda d: d.update(imageHeight=2**20, imageWidth=2**20), ["more than 89478485 pixels"]),
        (lambda d: d.pop("shapes"), ["photo 1.json", "'shapes' is missing"]),
    ],
)
def test_shapes_that_cannot_be_used(labelme, change, words):
    with refused("photo 1.json", *words):
        labelme(change)


def _shape(label, points, kind="polygon", group=None):
    return {"label": label, "points": points, "shape_type": kind, "group_id": group}


def _box(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def _areas(image):
    return sorted((s.category, s.area) for s in image.segments)


def test_shapes_of_every_kind_and_groups(labelme):
    image = labelme(
        lambda d: d.update(
            imagePath="..\\elsewhere\\photo 1.jpg",
            shapes=[
                _shape("no such label", [[0, 0]], "point"),
                _shape("car", [[0, 0], [90, 50]], "line"),
                _shape("person", [[60, 30], [60, 40]], "circle"),
                _shape("car", [[0, 0], [4, 5]], "rectangle", 5),
                _shape("car", [[10, 20], [8, 18]], "rectangle", 5),
                {"label": "car", "points": _box(80, 0, 90, 9)},
                _shape("car", _box(20, 0, 23, 3), "oriented_rectangle"),
                _shape("car", [[30, 2], [32, 0], [34, 2], [32, 4]], "rotation"),
                _shape("car", _box(200, 200, 201, 201)),
            ],
        )
    )
    assert image.image_name == "photo 1.jpg"
    areas = {s.area for s in image.segments if s.category == 0}
    assert areas == {4 * 5 + 2 * 2, 10 * 9, 3 * 3, 8}
    (circle,) = [s for s in image.segments if s.category == 1]
    assert circle.area == pytest.approx(np.pi * 100, rel=0.03)
    assert image.notes["outlines without a pixel"] == 1
    assert image.notes["lines and points, which have no area"] == 2
    assert len(image.outlines) == 5


def test_numbered_labels_are_instances(labelme):
    shapes = [
        _shape("car-1", _box(0, 0, 4, 5)),
        _shape("car-2", _box(10, 0, 14, 4)),
        _shape("car-1", _box(20, 0, 22, 2)),
        _shape("car", _box(30, 0, 31, 1)),
        _shape("car", _box(40, 0, 42, 1)),
        _shape("person-1", _box(50, 0, 53, 1)),
    ]
    image = labelme(lambda d: d.update(shapes=shapes))
    assert _areas(image) == [(0, 1), (0, 2), (0, 4 * 4), (0, 4 * 5 + 2 * 2), (1, 3)]
    assert len(image.outlines) == 5
    with refused("shapes[0]", "'label' is 'car-one'"):
        labelme(lambda d: d.update(shapes=[_shape("car-one", _box(0, 0, 4, 5))]))


@pytest.mark.parametrize(
    ("overlaps", "areas"), [("later", [(0, 60), (0, 100)]), ("smaller", [(0, 100), (0, 100)])]
)
def test_what_is_ignored_is_void_where_it_lies_on_top(labelme, overlaps, areas):
    shapes = [
        _shape("car", _box(0, 0, 10, 10)),
        _shape("__ignore__", _box(6, 0, 30, 10)),
        _shape("car", _box(20, 0, 30, 10)),
    ]
    image = labelme(lambda d: d.update(shapes=shapes), f"overlaps={overlaps}")
    assert _areas(image) == areas
    assert (image.segment_map[:10, 10:20] == 0).all()
    assert [int(outline.crop.mask.sum()) for outline in image.outlines] == [100, 100]


@pytest.mark.parametrize("orientation", [1, 6])
def test_old_files_without_a_size_have_that_of_the_photo(labelme, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (60, 40)).save(tmp_path / "photos/photo 1.jpg", exif=exif)

    def age(document):
        del document["imageHeight"], document["imageWidth"], document["version"]
        document["shapes"] = [{"label": "car", "points": _box(0, 0, 8, 40), "line_color": None}]

    image = labelme(age)
    assert image.segment_map.shape == ((40, 60) if orientation == 1 else (60, 40))
    assert _areas(image) == [(0, 8 * 40)]


def test_annotations_without_photos_and_folders_without_either(tmp_path):
    write_labelme(tmp_path, rectangle_scenes(0, count=2, crowds=False))
    (tmp_path / "photos/photo 1.jpg").unlink()
    given = paths(tmp_path, annotations="photos", table="table.csv")
    with refused("photo 1.json", "imagePath 'photo 1.jpg'", "set images="):
        open_from("labelme", *given).read(0)
    (tmp_path / "empty").mkdir()
    with refused("empty", "no JSON files", "annotations="):
        open_from("labelme", *given, f"annotations={tmp_path}/empty")
    with refused("empty", "no photos", "images="):
        open_from("labelme", *given, f"images={tmp_path}/empty")
    with refused("nowhere", "no such folder or zip"):
        open_from("labelme", *given, f"annotations={tmp_path}/nowhere")


@pytest.fixture
def label_pngs(tmp_path):
    write_label_pngs(tmp_path, rectangle_scenes(0, count=2))
    folders = {"semantic": "SegmentationClass", "instances": "SegmentationObject"}
    given = paths(tmp_path, **folders, images="JPEGImages", table="table.csv")
    return tmp_path, lambda *overrides: open_from("label_pngs", *given, *overrides)


def test_label_pngs_that_cannot_be_used(label_pngs):
    root, read = label_pngs
    instances, categories = (
        root / f"Segmentation{kind}/photo 1.png" for kind in ("Object", "Class")
    )
    Image.fromarray(np.zeros((3, 5), np.uint8)).save(instances)
    with refused("SegmentationObject: photo 1.png", "5 x 3", "90 x 62"):
        read().read(0)
    instances.unlink()
    with refused("SegmentationObject", "no file 'photo 1.png'"):
        read().read(0)
    Image.fromarray(np.full((62, 90, 3), 9, np.uint8)).save(categories)
    with refused("SegmentationClass: photo 1.png", "RGB [9, 9, 9]", "no category"):
        read(f"instances={root}/SegmentationClass").read(0)
    with refused("void", "'x' is no category id"):
        read("void=[x]")
    (root / "JPEGImages/photo 1.png").write_bytes(b"")
    with refused("JPEGImages", "photo 1.jpg and photo 1.png", "rename one"):
        read()
    for name in ("photo 1.png", "photo 1.jpg"):
        (root / "JPEGImages" / name).unlink()
    with refused("SegmentationClass", "photo 1.png has no photo photo 1.*"):
        read()


def test_two_categories_of_one_colour_cannot_be_told_apart(tmp_path):
    write_label_pngs(tmp_path, rectangle_scenes(0, count=1), kind="rgb")
    rows = (tmp_path / "table.csv").read_text().replace("#6b8e23", "#00008e")
    (tmp_path / "table.csv").write_text(rows)
    folders = {"semantic": "SegmentationClass", "instances": "SegmentationObject"}
    given = paths(tmp_path, **folders, images="JPEGImages", table="table.csv")
    with refused("a.png", "car and vegetation have one colour"):
        open_from("label_pngs", *given).read(0)


def test_one_channel_and_sixteen_bits_are_no_two_channels(tmp_path):
    write_two_channels(tmp_path, rectangle_scenes(0, count=2))
    given = paths(tmp_path, annotations="maps", images="photos", table="table.csv")
    path = tmp_path / "maps/photo 1.png"
    Image.fromarray(np.zeros((62, 90), np.uint8)).save(path)
    with refused("maps: photo 1.png", "one channel", "instance"):
        open_from("two_channels", *given).read(0)
    data = path.read_bytes()
    path.write_bytes(data[:24] + b"\x10\x02" + data[26:])  # says 16-bit RGB
    with refused("maps: photo 1.png", "16-bit RGB", "8 bits"):
        open_from("two_channels", *given).read(0)


def test_panoptic_forms_that_contradict_themselves(tmp_path):
    write_panoptic(tmp_path, rectangle_scenes(0, count=2))
    path = tmp_path / "panoptic.json"
    given = paths(tmp_path, annotations="panoptic.json", pngs="panoptic", images="photos")
    sound = json.loads(path.read_text())

    def read(change):
        document = json.loads(json.dumps(sound))
        change(document)
        path.write_text(json.dumps(document))
        return open_from("panoptic", *given).read(1)

    assert read(lambda _: None).image_name == "photo 1.jpg"
    with refused("annotations[1]", "'image_id' is 'b'", "no entry"):
        read(lambda d: d["annotations"][1].update(image_id="b"))
    with refused("panoptic.json", "'id' stands twice"):
        read(lambda d: d["images"][1].update(id="a"))
    with refused("images[1]", "'id' is None"):
        read(lambda d: d["images"][1].update(id=None))
    with refused("photo 1.png", "'area' 5"):
        read(lambda d: d["annotations"][1]["segments_info"][0].update(area=5))
    with refused("photos", "no photo other.jpg", "images="):
        read(lambda d: d["images"][1].update(file_name="other.jpg"))
    (tmp_path / "photos/twice").mkdir()
    (tmp_path / "photos/photo 1.jpg").rename(tmp_path / "photos/twice/photo 1.jpg")
    assert read(lambda _: None).image_name == "twice/photo 1.jpg"
    (tmp_path / "photos/sub/photo 1.png").write_bytes(b"")
    with refused("photos", "sub/photo 1.png and twice/photo 1.jpg may both be photo 1.jpg"):
        read(lambda _: None)


def test_cityscapes_that_cannot_be_used(tmp_path):
    write_cityscapes(tmp_path, rectangle_scenes(0, count=1), "own")
    folder = tmp_path / "gtFine/own/aachen"
    (polygons,) = folder.glob("*_polygons.json")
    document = json.loads(polygons.read_text())

    def read(change):
        changed = json.loads(json.dumps(document))
        change(changed["objects"][2])
        polygons.write_text(json.dumps(changed))
        return open_from("cityscapes", f"root={tmp_path}").read(0)

    whole = len(read(lambda _: None).outlines)
    assert len(read(lambda o: o.update(deleted=1)).outlines) == whole - 1
    with refused("_polygons.json", "objects[2]", "'polygon' is missing"):
        read(lambda o: o.pop("polygon"))
    with refused("_polygons.json", "objects[2]", "'polygon'", "finite"):
        read(lambda o: o.update(polygon=[[0, float("inf")]] * 3))
    with refused("_polygons.json", "objects[2]", "'label' is 3"):
        read(lambda o: o.update(label=3))
    (instances,) = folder.glob("*_instanceIds.png")
    Image.fromarray(np.full((60, 90), 99_000 // 2, np.uint16)).save(instances)
    with refused("_instanceIds.png", "label 49", "33"):
        read(lambda _: None)
    Image.fromarray(np.zeros((60, 90, 3), np.uint8)).save(instances)
    with refused("_instanceIds.png", "colour PNG", "grey"):
        read(lambda _: None)
    instances.unlink()
    with refused("gtFine/own", "no *_gtFine_instanceIds.png", "root="):
        open_from("cityscapes", f"root={tmp_path}")


def test_grey_pngs_of_few_bits_hold_what_is_stored(tmp_path):
    """Pillow stretches grey of 1, 2 and 4 bits to 0 .. 255."""
    write_two_channels(tmp_path, rectangle_scenes(0, count=2))
    labels = np.zeros((62, 90), np.uint8)
    labels[:, 40:] = 1
    Image.fromarray(labels.astype(bool)).save(tmp_path / "maps/photo 1.png")
    assert Image.open(tmp_path / "maps/photo 1.png").mode == "1"
    given = paths(tmp_path, semantic="maps", instances="maps", images="photos", table="table.csv")
    image = open_from("label_pngs", *given).read(0)
    assert [(s.category, s.area) for s in image.segments] == [(2, 40 * 62), (3, 50 * 62)]
