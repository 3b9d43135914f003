"""Twenty photographs with their annotations in every layout: converted, checked and counted."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from make.layouts import (
    CITYSCAPES,
    VOID,
    Scene,
    Thing,
    count_written,
    write_cityscapes,
    write_coco,
    write_label_pngs,
    write_labelme,
    write_panoptic,
    write_two_channels,
)
from refine.config import compose
from refine.workflows.check_dataset import check
from refine.workflows.convert_annotations import convert_dataset

pytestmark = pytest.mark.real
NUM_PHOTOS = 20


def _read_scene(root, image, annotation, outlines, names):
    """A scene by pycocotools and numpy alone; the smaller thing on top, crowds below."""
    size = (image["height"], image["width"])
    pixels = np.asarray(
        Image.open(root / "annotations/panoptic_train2017" / annotation["file_name"])
    )
    ids = pixels.astype(int) @ [1, 256, 65536]
    stuff = np.full(size, VOID, dtype="<U30")
    for segment in annotation["segments_info"]:
        name, is_thing = names[segment["category_id"]]
        if not is_thing:
            stuff[ids == segment["id"]] = name
    things = []
    for outline in outlines:
        coded = outline["segmentation"]
        packed = coco_mask.frPyObjects(coded, *size)
        mask = coco_mask.decode(packed if outline["iscrowd"] else coco_mask.merge(packed))
        polygons = [] if outline["iscrowd"] else coded
        name = names[outline["category_id"]][0]
        things.append(Thing(name, polygons, mask.astype(bool), bool(outline["iscrowd"])))
    things.sort(key=lambda thing: (not thing.is_crowd, -thing.mask.sum()))
    photo = np.asarray(Image.open(root / "train2017" / image["file_name"]).convert("RGB"))
    return Scene(image["file_name"].removesuffix(".jpg"), photo, stuff, things)


@pytest.fixture(scope="module")
def photos(coco_root):
    """Scenes of the photographs with the most outlines and crowds, and the table of categories."""
    panoptic, instances = (
        json.loads((coco_root / f"annotations/{kind}_train2017.json").read_text())
        for kind in ("panoptic", "instances")
    )
    names = {c["id"]: (c["name"], c["isthing"]) for c in panoptic["categories"]}
    outlines = {image["id"]: [] for image in panoptic["images"]}
    for annotation in instances["annotations"]:
        outlines[annotation["image_id"]].append(annotation)
    crowded = sorted(outlines, key=lambda i: -sum(1 + 20 * a["iscrowd"] for a in outlines[i]))
    chosen = set(crowded[: NUM_PHOTOS // 2] + crowded[-NUM_PHOTOS // 2 :])
    annotations = {a["image_id"]: a for a in panoptic["annotations"]}
    scenes = [
        _read_scene(coco_root, image, annotations[image["id"]], outlines[image["id"]], names)
        for image in panoptic["images"]
        if image["id"] in chosen
    ]
    table = {
        c["name"]: (k, c["isthing"], tuple(c["color"]))
        for k, c in enumerate(panoptic["categories"])
    }
    assert len(scenes) == NUM_PHOTOS
    return scenes, table


def _without_crowds(scenes):
    return [
        Scene(s.stem, s.photo, s.stuff, [t for t in s.things if not t.is_crowd]) for s in scenes
    ]


def _parts(thing, size):
    """A thing for each polygon: Cityscapes' objects have one each."""
    if len(thing.polygons) < 2:
        return [thing]
    masks = [coco_mask.decode(coco_mask.frPyObjects([p], *size))[..., 0] for p in thing.polygons]
    pairs = zip(thing.polygons, masks, strict=True)
    return [Thing(thing.name, [p], m.astype(bool), thing.is_crowd) for p, m in pairs]


def _as_cityscapes(scenes, table):
    """The same scenes with the names of Cityscapes, one after the other."""
    kinds = [[n for n, (_, is_thing, _) in CITYSCAPES.items() if is_thing == k] for k in (0, 1)]
    renamed = {
        name: kinds[is_thing][number % len(kinds[is_thing])]
        for name, (number, is_thing, _) in table.items()
    } | {VOID: VOID}
    return [
        Scene(
            s.stem, s.photo, np.vectorize(renamed.get, otypes=["<U30"])(s.stuff),
            [
                Thing(renamed[t.name], t.polygons, t.mask, t.is_crowd)
                for thing in s.things
                for t in _parts(thing, s.size)
            ],
        )
        for s in scenes
    ]  # fmt: skip


def _paths(root, **names):
    return [f"{key}={root}/{name}" for key, name in names.items()]


def _write(layout, root, scenes, table):
    """The files of a layout, and the settings that say where they are."""
    if layout in ("grey", "json"):
        write_coco(root, scenes, semantic=layout, table=table)
        given = {"instances": "instances.json", "images": "photos"}
        given["semantic"] = "stuff.json" if layout == "json" else "semantic"
        tables = {} if layout == "json" else {"table": "table.csv"}
        return ["from=coco", *_paths(root, **given, **tables)]
    if layout == "labelme":
        write_labelme(root, scenes, table=table, stuff_as="mask")
        return ["from=labelme", *_paths(root, annotations="photos", table="table.csv")]
    if layout in ("palette", "rgb"):
        write_label_pngs(root, scenes, kind=layout, table=table)
        folders = {"semantic": "SegmentationClass", "instances": "SegmentationObject"}
        given = _paths(root, **folders, images="JPEGImages", table="table.csv")
        return ["from=label_pngs", *given]
    if layout == "two channels":
        write_two_channels(root, scenes, table=table)
        given = _paths(root, annotations="maps", images="photos", table="table.csv")
        return ["from=two_channels", *given]
    if layout == "panoptic":
        write_panoptic(root, scenes, table=table)
        given = _paths(root, annotations="panoptic.json", pngs="panoptic", images="photos")
        return ["from=panoptic", *given]
    write_cityscapes(root, scenes, "own")
    return ["from=cityscapes", f"root={root}"]


@pytest.mark.parametrize(
    "layout",
    ["grey", "json", "labelme", "palette", "rgb", "two channels", "panoptic", "cityscapes"],
)
def test_photographs_in_every_layout(photos, tmp_path, layout):
    scenes, table = photos
    scenes = _without_crowds(scenes) if layout == "labelme" else scenes
    scenes = _as_cityscapes(scenes, table) if layout == "cityscapes" else scenes
    given = _write(layout, tmp_path, scenes, table)
    assert (
        convert_dataset(compose("convert_dataset", [*given, f"out={tmp_path}/out", "split=own"]))
        == 0
    )
    ending = {"cityscapes": "aachen/aachen_{}_leftImg8bit.png"}.get(layout, "{}.jpg")
    expected = {ending.format(scene.stem): scene.count() for scene in scenes}
    assert count_written(tmp_path / "out", "own") == expected
    assert sum(crowd for found in expected.values() for _, crowd, _ in found) >= (
        layout != "labelme"
    )
    given = ["data=custom_panoptic", f"data.root={tmp_path}/out", "splits=[own]"]
    assert check(compose("check", given)) == 0
