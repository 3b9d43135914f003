import json
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from make.errors import refused
from refine.categories import CategoryTable
from refine.coco_format.layout import open_dataset
from refine.coco_format.png import decode_segment_png
from refine.options import ToyOptions
from refine.toy.dataset import ensure_toy_dataset, write_toy_dataset
from refine.toy.depth import overlap
from refine.toy.objects import TOY_CATEGORIES
from refine.toy.scene import generate_scene
from refine.toy.statistics import count_scene

SMALL = ToyOptions(num_train=10, num_val=6, height_px=64, width_px=96)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> tuple[Path, Counter]:
    root = tmp_path_factory.mktemp("toy") / "data" / "toy"
    # enough scenes for one with a crowd and one without things
    return root, write_toy_dataset(root, replace(SMALL, num_val=60))


def load(root: Path, name: str) -> dict:
    return json.loads((root / "annotations" / f"{name}2017.json").read_text())


def maps_of(root: Path, split: str):
    """Panoptic annotation, segment map, segments and instances of each image, read as COCO's."""
    files = open_dataset(root, f"{split}2017")
    assert files.annotations.categories == CategoryTable(TOY_CATEGORIES)
    for k, annotation in enumerate(load(root, f"panoptic_{split}")["annotations"]):
        name = annotation["file_name"]
        assert files.annotations.file_names[k] == name
        ids = decode_segment_png(files.pngs.read(name), source=name)
        instances = files.instances.of_image(annotation["image_id"])
        yield annotation, ids, files.annotations.segments(k), instances


def tight_box(mask: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(mask)
    x, y = columns.min(), rows.min()
    return [x, y, columns.max() - x + 1, rows.max() - y + 1]


def files_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def decode(entry: dict, size: tuple[int, int]) -> np.ndarray:
    runs = coco_mask.frPyObjects(entry["segmentation"], *size)
    return coco_mask.decode(runs if entry["iscrowd"] else coco_mask.merge(runs)).astype(bool)


# --- files


def test_the_layout_is_coco_s(dataset):
    root, counts = dataset
    assert {p.name for p in root.iterdir()} == {"train2017", "val2017", "annotations", "toy.json"}
    for split, first, count in (("train", 1, 10), ("val", 10_000_001, 60)):
        panoptic, instances = load(root, f"panoptic_{split}"), load(root, f"instances_{split}")
        keys = {"annotations", "categories", "images", "info", "licenses"}
        assert panoptic.keys() == instances.keys() == keys
        assert panoptic["images"] == instances["images"]
        ids = list(range(first, first + count))
        assert [image["id"] for image in panoptic["images"]] == ids
        assert [a["image_id"] for a in panoptic["annotations"]] == ids
        for image in panoptic["images"]:
            assert image["file_name"] == f"{image['id']:012d}.jpg"
            with Image.open(root / f"{split}2017" / image["file_name"]) as jpeg:
                assert (jpeg.format, jpeg.mode, jpeg.size) == ("JPEG", "RGB", (96, 64))
                assert jpeg.size == (image["width"], image["height"])
        things = [c["id"] for c in panoptic["categories"] if c["isthing"]]
        assert [c["id"] for c in instances["categories"]] == things
    assert counts["scenes"] == 70
    assert counts["bare"] > 0  # some scenes have no things


def test_panoptic_files_agree_with_one_another(dataset):
    root, counts = dataset
    seen = Counter()
    for split in ("train", "val"):
        for annotation, ids, segments, instances in maps_of(root, split):
            infos = annotation["segments_info"]
            assert {s["id"] for s in infos} == set(np.unique(ids)) - {0}
            for info, segment in zip(infos, segments, strict=True):
                mask = ids == info["id"]
                assert info["area"] == segment.area == mask.sum()
                assert info["bbox"] == tight_box(mask)
            assert [s.category for s in segments if s.is_thing] == [i.category for i in instances]
            stuff = [s.category for s in segments if not s.is_thing]
            assert len(set(stuff)) == len(stuff)
            seen.update(TOY_CATEGORIES[s.category].name for s in segments)
    assert seen == {c.name: counts[f"segments/{c.name}"] for c in TOY_CATEGORIES}


def test_outlines_and_depths_explain_the_visible_parts(dataset):
    root, _ = dataset
    entries = load(root, "instances_val")["annotations"]
    assert len({entry["id"] for entry in entries}) == len(entries)
    worst = 1.0
    for annotation, ids, _, _ in maps_of(root, "val"):
        left = {s["id"]: s for s in annotation["segments_info"] if s["category_id"] < 90}
        mine = [e for e in entries if e["image_id"] == annotation["image_id"]]
        assert len(mine) == len(left)
        nearer = np.zeros(ids.shape, bool)
        for entry in sorted(mine, key=lambda e: -e["depth"]):
            full = decode(entry, ids.shape)
            visible = full & ~nearer
            nearer |= full
            best = max(left, key=lambda s: (visible & (ids == s)).sum())
            assert left[best]["category_id"] == entry["category_id"]
            assert left[best]["iscrowd"] == entry["iscrowd"]
            found = ids == best
            worst = min(worst, (found & visible).sum() / (found | visible).sum())
            np.testing.assert_allclose(entry["bbox"], tight_box(full), atol=2)
            assert entry["area"] == pytest.approx(full.sum(), rel=0.12, abs=6)
            del left[best]
    assert worst > 0.8  # rims of pixels, on small things of a small scene


def test_instances_are_polygons_and_crowds_run_lengths(dataset):
    entries = load(dataset[0], "instances_val")["annotations"]
    assert any(entry["iscrowd"] for entry in entries)
    for entry in entries:
        if entry["iscrowd"]:
            assert entry["segmentation"]["size"] == [64, 96]
            assert sum(entry["segmentation"]["counts"]) == 64 * 96
            assert entry["depth"] == 0
        else:
            (polygon,) = entry["segmentation"]
            assert len(polygon) in range(6, 1000, 2)
    # the place in the list does not tell the depth
    later_is_nearer = [
        b["depth"] > a["depth"] for a, b in pairwise(entries) if a["image_id"] == b["image_id"]
    ]
    assert 0.3 < np.mean(later_is_nearer) < 0.7


def test_visible_masks_are_the_segments(tmp_path):
    """With ``masks="visible"`` each instance is the segment of its category, pixel for pixel."""
    write_toy_dataset(tmp_path, replace(SMALL, version=2, masks="visible"))
    entries, count = load(tmp_path, "instances_val")["annotations"], 0
    for annotation, ids, _, instances in maps_of(tmp_path, "val"):
        mine = [e for e in entries if e["image_id"] == annotation["image_id"]]
        segments = [s for s in annotation["segments_info"] if s["category_id"] < 90]
        assert len(mine) == len(segments) == len(instances)
        for entry, segment in zip(mine, segments, strict=True):
            runs = coco_mask.frPyObjects(entry["segmentation"], *ids.shape)
            np.testing.assert_array_equal(coco_mask.decode(runs), ids == segment["id"])
            assert (entry["bbox"], entry["area"]) == (segment["bbox"], segment["area"])
            count += 1
    assert count > 10


def test_files_do_not_depend_on_the_number_of_processes(tmp_path):
    write_toy_dataset(tmp_path / "one", SMALL)
    write_toy_dataset(tmp_path / "two", SMALL, num_processes=2)
    one, two = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    assert len(one) == 2 * 16 + 5
    assert one == two
    with pytest.raises(ValueError, match="num_processes=0"):
        write_toy_dataset(tmp_path / "none", SMALL, num_processes=0)


# --- ensuring and refusing

TINY = ToyOptions(num_train=2, num_val=1, height_px=32, width_px=48)


def test_ensure_writes_once(tmp_path):
    root = tmp_path / "data" / "toy"
    root.mkdir(parents=True)
    ensure_toy_dataset(root, TINY)
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    recorded = json.loads((root / "toy.json").read_text())["options"]
    assert ToyOptions(**recorded) == TINY
    assert not {"crowded", "version", "masks"} & {*recorded}  # older scenes stay valid
    ensure_toy_dataset(root, TINY)
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before
    assert [p.name for p in root.parent.iterdir()] == ["toy"]  # no draft is left behind


def test_crowded_scenes_hide_more():
    hidden = []  # pairs of things of which the smaller one is half hidden
    for options in (SMALL, replace(SMALL, crowded=True)):
        scenes = [generate_scene(options, "val", index) for index in range(20)]
        pairs = [combinations([t.mask for t in s.objects if not t.is_crowd], 2) for s in scenes]
        hidden.append(sum(overlap(*pair) >= 0.45 for some in pairs for pair in some))
    assert hidden[1] > 2 * hidden[0]


def test_ensure_refuses_other_options_and_a_damaged_record(tmp_path):
    ensure_toy_dataset(tmp_path / "toy", TINY)
    for other in ({"crowded": True}, {"seed": 3}, {"masks": "visible"}, {"hues": "category"}):
        with refused("this toy", " was made with ", json.dumps(other)[1:-1], "data.root"):
            ensure_toy_dataset(tmp_path / "toy", replace(TINY, **other))
    for content in ("", "{", "[]", '{"options": {}}'):
        (tmp_path / "toy" / "toy.json").write_text(content)
        with refused("data.root"):
            ensure_toy_dataset(tmp_path / "toy", TINY)


def test_somebody_else_s_folder_or_file_is_left_alone(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"precious")
    for root in (tmp_path, tmp_path / "photo.jpg"):
        with refused("other than a toy dataset"):
            ensure_toy_dataset(root, TINY)
        with refused("not empty"):
            write_toy_dataset(root, TINY)
    with refused("cannot write ", "data.root"):
        ensure_toy_dataset(tmp_path / "photo.jpg" / "toy", TINY)
    assert files_of(tmp_path) == {"photo.jpg": b"precious"}


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("refine.toy.dataset.count_scene", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ensure_toy_dataset(tmp_path / "toy", TINY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rival_seed", [0, 1])
def test_another_process_may_finish_first(tmp_path, monkeypatch, rival_seed):
    root = tmp_path / "toy"
    rival = replace(TINY, seed=rival_seed)

    def count_late(scene):
        if not root.exists():
            monkeypatch.undo()
            write_toy_dataset(root, rival)
        return count_scene(scene)

    monkeypatch.setattr("refine.toy.dataset.count_scene", count_late)
    with refused("was made with") if rival_seed else nullcontext():
        ensure_toy_dataset(root, TINY)
    ensure_toy_dataset(root, rival)
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]
