"""``refine.convert_dataset`` on scenes that the tests write and count by themselves."""

import json
import shutil
from dataclasses import replace

import pytest

from make.commands import run_main
from make.errors import refused
from make.layouts import (
    CITYSCAPES,
    OWN,
    category_list,
    count_written,
    label_map,
    rectangle_scenes,
    save_labels,
    write_cityscapes,
    write_coco,
    write_label_pngs,
    write_labelme,
    write_panoptic,
    write_photos,
    write_table,
    write_two_channels,
)
from refine.config import compose
from refine.layouts.category_file import load_categories
from refine.workflows.check_dataset import check
from refine.workflows.convert_annotations import convert_dataset

SPLIT = "own"


def convert(root, *overrides):
    given = [f"out={root}/out", f"split={SPLIT}", *overrides]
    return convert_dataset(compose("convert_dataset", given))


def check_result(root):
    """What ``refine.check`` has to say of the result: nothing."""
    given = ["data=custom_panoptic", f"data.root={root}/out", f"splits=[{SPLIT}]"]
    assert check(compose("check", given)) == 0


def assert_as_painted(root, scenes, *, suffix=".jpg"):
    expected = {f"{scene.stem}{suffix}": scene.count() for scene in scenes}
    assert count_written(root / "out", SPLIT) == expected
    check_result(root)


def paths(root, **names):
    return [f"{key}={root}/{name}" for key, name in names.items()]


def coco(root, semantic="semantic"):
    return [
        "from=coco",
        *paths(root, instances="instances.json", semantic=semantic, images="photos"),
    ]


@pytest.mark.parametrize("kind", ["grey", "palette", "rgb", "16 bits", "json"])
@pytest.mark.parametrize("seed", [0, 1])
def test_coco_instances_with_semantic_maps_or_stuff(tmp_path, kind, seed):
    scenes = rectangle_scenes(seed)
    write_coco(tmp_path, scenes, semantic=kind, seed=seed)
    semantic = "stuff.json" if kind == "json" else "semantic"
    table = [] if kind == "json" else paths(tmp_path, table="table.csv")
    assert convert(tmp_path, *coco(tmp_path, semantic), *table) == 0
    assert_as_painted(tmp_path, scenes)
    document = json.loads((tmp_path / f"out/annotations/instances_{SPLIT}.json").read_text())
    areas = [a["area"] for a in document["annotations"] if a["image_id"] == 101]
    assert sorted(areas) == sorted(int(t.mask.sum()) for t in scenes[0].things)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labelme(tmp_path, seed):
    scenes = rectangle_scenes(seed, crowds=False)
    write_labelme(tmp_path, scenes)
    given = paths(tmp_path, annotations="photos", table="table.csv")
    assert convert(tmp_path, "from=labelme", *given) == 0
    assert_as_painted(tmp_path, scenes)


@pytest.mark.parametrize("overlaps", ["earlier", "smaller"])
def test_the_order_of_overlaps_can_be_chosen(tmp_path, overlaps):
    """Files are written from bottom to top, so of a file upside down the earlier is on top."""
    scenes = rectangle_scenes(4, crowds=False)
    upside_down = [replace(s, things=s.things[::-1]) for s in scenes]
    write_labelme(tmp_path, upside_down)
    for scene in scenes:  # stuff comes first
        path = tmp_path / f"photos/{scene.stem}.json"
        document = json.loads(path.read_text())
        document["shapes"] = document["shapes"][2:] + document["shapes"][:2]
        path.write_text(json.dumps(document))
    given = paths(tmp_path, annotations="photos", table="table.csv")
    convert(tmp_path, "from=labelme", *given, f"overlaps={overlaps}")
    assert_as_painted(tmp_path, scenes)
    convert(tmp_path, "from=labelme", *given, f"out={tmp_path}/other")  # later: stuff hides all
    stuff = count_written(tmp_path / "other", SPLIT)["sub/a.jpg"]
    assert {("sky", False, 30 * 90), ("vegetation", False, 28 * 90)} <= set(stuff)


@pytest.mark.parametrize("kind", ["palette", "grey", "rgb"])
def test_label_pngs(tmp_path, kind):
    scenes = rectangle_scenes(5)
    write_label_pngs(tmp_path, scenes, kind=kind)
    folders = {"semantic": "SegmentationClass", "instances": "SegmentationObject"}
    given = paths(tmp_path, **folders, images="JPEGImages", table="table.csv")
    assert convert(tmp_path, "from=label_pngs", *given) == 0
    assert_as_painted(tmp_path, scenes)


def test_folders_may_be_zips(tmp_path):
    scenes = rectangle_scenes(5)
    write_label_pngs(tmp_path, scenes)
    folders = ["SegmentationClass", "SegmentationObject", "JPEGImages"]
    for name in folders:
        shutil.make_archive(tmp_path / name, "zip", tmp_path / name)
        shutil.rmtree(tmp_path / name)
    names = zip(("semantic", "instances", "images"), folders, strict=True)
    given = paths(tmp_path, **{key: f"{name}.zip" for key, name in names}, table="table.csv")
    assert convert(tmp_path, "from=label_pngs", *given) == 0
    assert_as_painted(tmp_path, scenes)


@pytest.mark.parametrize("kind", ["rgb", "la"])
def test_two_channels(tmp_path, kind):
    scenes = rectangle_scenes(6)
    write_two_channels(tmp_path, scenes, kind=kind)
    given = paths(tmp_path, annotations="maps", images="photos", table="table.csv")
    assert convert(tmp_path, "from=two_channels", *given) == 0
    assert_as_painted(tmp_path, scenes)


@pytest.mark.parametrize("number", [str, {"a": 4, "photo 1": 0, "photo 2": 9}.get])
def test_panoptic_form_of_anyone(tmp_path, number):
    scenes = rectangle_scenes(7)
    write_panoptic(tmp_path, scenes, number=number)
    given = paths(tmp_path, annotations="panoptic.json", pngs="panoptic", images="photos")
    assert convert(tmp_path, "from=panoptic", *given) == 0
    assert_as_painted(tmp_path, scenes)


def test_ade20k(tmp_path):
    scenes = rectangle_scenes(8)
    write_panoptic(tmp_path, scenes)
    (tmp_path / "images").mkdir()
    (tmp_path / "photos").rename(tmp_path / "images/validation")
    (tmp_path / "panoptic").rename(tmp_path / f"ade20k_panoptic_{SPLIT}")
    (tmp_path / "panoptic.json").rename(tmp_path / f"ade20k_panoptic_{SPLIT}.json")
    document = json.loads((tmp_path / f"ade20k_panoptic_{SPLIT}.json").read_text())
    for image in document["images"]:  # in the prepared files without folders
        image["file_name"] = image["file_name"].split("/")[-1]
    (tmp_path / f"ade20k_panoptic_{SPLIT}.json").write_text(json.dumps(document))
    assert convert(tmp_path, "from=ade20k", f"root={tmp_path}") == 0
    for scene in scenes:
        scene.stem = f"validation/{scene.stem}"
    assert_as_painted(tmp_path, scenes)


@pytest.mark.parametrize("polygons", [True, False])
def test_cityscapes(tmp_path, polygons):
    scenes = rectangle_scenes(9)
    write_cityscapes(tmp_path, scenes, SPLIT, polygons=polygons)
    assert convert(tmp_path, "from=cityscapes", f"root={tmp_path}") == 0
    for scene in scenes:
        scene.stem = "aachen/aachen_" + scene.stem.replace("/", "_").replace(" ", "_")
    assert_as_painted(tmp_path, scenes, suffix="_leftImg8bit.png")
    path = tmp_path / f"out/annotations/instances_{SPLIT}.json"
    assert path.exists() == polygons
    if polygons:
        found = json.loads(path.read_text())["annotations"]
        things = [thing for scene in sorted(scenes, key=lambda s: s.stem) for thing in scene.things]
        assert [a["area"] for a in found] == [int(t.mask.sum()) for t in things]
        assert [a["iscrowd"] for a in found] == [int(t.is_crowd) for t in things]


def test_cityscapes_panoptic_form(tmp_path):
    scenes = rectangle_scenes(10)
    for scene in scenes:
        scene.stem = f"aachen/aachen_{scene.stem[-1]}"
    marks = {"png_suffix": "_gtFine_panoptic", "image_suffix": "_gtFine_leftImg8bit"}
    write_panoptic(tmp_path, scenes, table=CITYSCAPES, **marks)
    for scene in scenes:
        scene.stem += "_leftImg8bit"
    write_photos(tmp_path / "leftImg8bit" / SPLIT, scenes, suffix=".png")
    (tmp_path / "gtFine").mkdir()
    (tmp_path / "panoptic").rename(tmp_path / f"gtFine/cityscapes_panoptic_{SPLIT}")
    (tmp_path / "panoptic.json").rename(tmp_path / f"gtFine/cityscapes_panoptic_{SPLIT}.json")
    assert convert(tmp_path, "from=cityscapes_panoptic", f"root={tmp_path}") == 0
    assert_as_painted(tmp_path, scenes, suffix=".png")


@pytest.fixture
def coco_tree(tmp_path):
    return write_coco(tmp_path, rectangle_scenes(3))


def convert_coco(root, *overrides):
    return convert(root, *coco(root), f"table={root}/table.csv", *overrides)


def test_photos_are_links_or_copies_and_may_lie_in_place(coco_tree):
    convert_coco(coco_tree)
    photo, result = coco_tree / "photos/sub/a.jpg", coco_tree / f"out/{SPLIT}/sub/a.jpg"
    assert result.samefile(photo)
    convert_coco(coco_tree, f"out={coco_tree}/copied", "link=false")
    copied = coco_tree / f"copied/{SPLIT}/sub/a.jpg"
    assert not copied.samefile(photo)
    assert copied.read_bytes() == photo.read_bytes()
    before = photo.read_bytes()
    convert_coco(coco_tree, f"out={coco_tree}", "split=photos")
    assert photo.read_bytes() == before


def test_what_is_there_is_not_overwritten(coco_tree):
    (coco_tree / "out" / SPLIT).mkdir(parents=True)
    other = coco_tree / "out" / SPLIT / "photo 1.jpg"
    other.write_bytes(b"another photo")
    with refused("1 images cannot be converted"):
        convert_coco(coco_tree)
    assert other.read_bytes() == b"another photo"
    other.unlink()
    convert_coco(coco_tree)  # goes on after a failure
    with refused(f"panoptic_{SPLIT}.json", "there already", "split="):
        convert_coco(coco_tree)


def test_bad_images_are_listed_and_may_be_skipped(coco_tree, capsys):
    (coco_tree / "semantic/photo 1.png").write_bytes(b"text")
    (coco_tree / "photos/photo 2.jpg").unlink()
    with refused("2 images cannot be converted", "skip_bad=true"):
        convert_coco(coco_tree)
    printed = capsys.readouterr().out
    assert "semantic: photo 1.png: not a PNG file" in printed
    assert "photos: no file 'photo 2.jpg'" in printed
    assert not (coco_tree / f"out/annotations/panoptic_{SPLIT}.json").exists()
    convert_coco(coco_tree, "skip_bad=true")
    assert [*count_written(coco_tree / "out", SPLIT)] == ["sub/a.jpg"]
    check_result(coco_tree)


def test_thing_pixels_without_an_instance_and_unlisted_values_become_void(coco_tree, capsys):
    document = json.loads((coco_tree / "instances.json").read_text())
    scenes = rectangle_scenes(3)
    for scene in scenes:  # what is no car becomes void, in the label maps, too
        labels = label_map(scene, OWN, things=True)
        labels[labels == OWN["person"][0]] = 200
        save_labels(coco_tree / f"semantic/{scene.stem}.png", labels, kind="grey", table=OWN)
    write_table(coco_tree / "table.csv", {k: v for k, v in OWN.items() if k != "person"})
    with refused("annotations[", "'category_id' is 7", "add it"):
        convert_coco(coco_tree)
    with refused("no image could be converted"):
        convert_coco(coco_tree, "void=[255,7]")
    printed = capsys.readouterr().out
    assert "sub/a.png: category id 200 is not in the categories" in printed
    assert "7 or 255 for void" in printed
    convert_coco(coco_tree, "void=[255,7,200]")
    people = sum(a["category_id"] == 7 for a in document["annotations"])
    written = json.loads((coco_tree / f"out/annotations/instances_{SPLIT}.json").read_text())
    assert len(written["annotations"]) == len(document["annotations"]) - people > 0
    check_result(coco_tree)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,isthing\ncar,1\ncar,0\n", ["table.csv", "'car' stands twice"]),
        ("name,isthing,id\ncar,1,2\ncat,0,2\n", ["table.csv", "category id 2 stands twice"]),
        ("name,isthing\ncar,yes\n", ["table.csv", "category 1 ('car,yes')", "isthing is 'yes'"]),
        ("name,isthing\ncar\n", ["table.csv", "category 1 ('car')", "1 values", "2 names"]),
        ("name,thing\ncar,1\n", ["table.csv", "'name,thing'", "expected name,isthing"]),
        ("name,isthing,color\ncar,1,red\n", ["table.csv", "color is 'red'", "#RRGGBB"]),
        ("name,isthing\n", ["table.csv", "no categories"]),
        ("", ["table.csv", "expected name,isthing"]),
        ("name,isthing\n\xff,1\n", ["table.csv", "UTF-8"]),
    ],
)
def test_bad_tables_are_refused(coco_tree, text, words):
    (coco_tree / "table.csv").write_bytes(text.encode("latin-1"))
    with refused(*words):
        convert_coco(coco_tree)


def test_tables_may_lack_ids_and_colors_or_be_json(tmp_path):
    (tmp_path / "a.csv").write_text("isthing , name\r\n1,car\r\n\r\n0, tall grass\r\n")
    table = load_categories(tmp_path / "a.csv")
    assert [(c.dataset_id, c.name, c.is_thing) for c in table.categories] == [
        (1, "car", True),
        (2, "tall grass", False),
    ]
    for content in (category_list(OWN), {"images": [], "categories": category_list(OWN)}):
        (tmp_path / "a.json").write_text(json.dumps(content))
        assert load_categories(tmp_path / "a.json").to_json() == [
            c for t in (1, 0) for c in category_list(OWN) if c["isthing"] == t
        ]
    (tmp_path / "a.json").write_text("7")
    with refused("a.json", "no list of categories"):
        load_categories(tmp_path / "a.json")


def test_nothing_says_what_is_a_thing(coco_tree):
    with refused("instances.json", "'isthing'", "table=FILE.csv"):
        convert(coco_tree, *coco(coco_tree))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], ["from=None", "one of", "coco"]),
        (["from=cooc"], ["from=cooc", "did you mean coco", "have"]),
        (["from=coco"], ["images", "a value is needed"]),
        (["from=coco", "images=a", "instances=a", "semantic=a", "split=a/b"], ["split='a/b'"]),
        (["from=coco", "images=a", "instances=a", "semantic=a", "overlaps=no"], ["overlaps='no'"]),
        (["from=coco", "imges=a"], ["imges", "did you mean images"]),
    ],
)
def test_bad_settings_are_refused(tmp_path, overrides, words):
    with refused(*words):
        convert(tmp_path, *overrides)


def test_from_the_command_line(coco_tree, capsys):
    given = ["instances=instances.json", "semantic=semantic", "images=photos", "table=table.csv"]
    arguments = ["from=coco", *given, "out=a b", "split=own"]
    assert run_main("convert_dataset", *arguments, cwd=coco_tree) == 0
    printed = capsys.readouterr().out
    assert "own: 3 images" in printed
    assert "18 full outlines" in printed
    assert "void: 2.2 % of the pixels" in printed
