import json
from collections import Counter
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from refine.categories import CategoryTable
from refine.coco_format.layout import open_dataset
from refine.coco_format.png import decode_segment_png
from refine.errors import RefineError
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


def segment_map(root: Path, split: str, file_name: str) -> np.ndarray:
    rgb = np.asarray(Image.open(root / "annotations" / f"panoptic_{split}2017" / file_name))
    return rgb.astype(np.int64) @ (1, 256, 256**2)


def tight_box(mask: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(mask)
    x, y = columns.min(), rows.min()
    return [x, y, columns.max() - x + 1, rows.max() - y + 1]


def files_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def decode(entry: dict, size: tuple[int, int]) -> np.ndarray:
    segmentation = entry["segmentation"]
    if entry["iscrowd"]:
        runs = coco_mask.frPyObjects(segmentation, *size)
    else:
        runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    return coco_mask.decode(runs).astype(bool)


# --- files


def test_the_layout_is_coco_s(dataset):
    root, counts = dataset
    assert {p.name for p in root.iterdir()} == {"train2017", "val2017", "annotations", "toy.json"}
    image_ids = {}
    for split, count in (("train", 10), ("val", 60)):
        panoptic, instances = load(root, f"panoptic_{split}"), load(root, f"instances_{split}")
        keys = ["annotations", "categories", "images", "info", "licenses"]
        assert sorted(panoptic) == sorted(instances) == keys
        assert panoptic["images"] == instances["images"]
        image_ids[split] = {image["id"] for image in panoptic["images"]}
        assert [a["image_id"] for a in panoptic["annotations"]] == sorted(image_ids[split])
        assert len(image_ids[split]) == count
        for image in panoptic["images"]:
            assert image["file_name"] == f"{image['id']:012d}.jpg"
            with Image.open(root / f"{split}2017" / image["file_name"]) as jpeg:
                assert (jpeg.format, jpeg.mode, jpeg.size) == ("JPEG", "RGB", (96, 64))
                assert jpeg.size == (image["width"], image["height"])
        stuff = [c["id"] for c in panoptic["categories"] if not c["isthing"]]
        things = [c["id"] for c in panoptic["categories"] if c["isthing"]]
        assert [c["id"] for c in instances["categories"]] == things
        assert len(things) >= 5
        assert len(stuff) >= 4
        assert max(things) < min(stuff)
    assert not image_ids["train"] & image_ids["val"]
    assert counts["scenes"] == 70
    assert counts["bare"] > 0  # some scenes have no things


def test_panoptic_files_agree_with_one_another(dataset):
    root, counts = dataset
    seen = Counter()
    for split in ("train", "val"):
        for annotation in load(root, f"panoptic_{split}")["annotations"]:
            ids = segment_map(root, split, annotation["file_name"])
            segments = annotation["segments_info"]
            assert {s["id"] for s in segments} == set(np.unique(ids)) - {0}
            assert len({s["id"] for s in segments}) == len(segments)
            for segment in segments:
                mask = ids == segment["id"]
                assert segment["area"] == mask.sum()
                assert segment["bbox"] == tight_box(mask)
            found = [s["category_id"] for s in segments]
            assert all(found.count(c) == 1 for c in found if c > 90)  # stuff
            seen.update(found)
    for category in TOY_CATEGORIES:
        assert seen[category.dataset_id] == counts[f"segments/{category.name}"]


def test_outlines_and_depths_explain_the_visible_parts(dataset):
    root, _ = dataset
    panoptic = {a["image_id"]: a for a in load(root, "panoptic_val")["annotations"]}
    entries = load(root, "instances_val")["annotations"]
    assert len({entry["id"] for entry in entries}) == len(entries)
    worst = 1.0
    for image_id, annotation in panoptic.items():
        ids = segment_map(root, "val", annotation["file_name"])
        left = {s["id"]: s for s in annotation["segments_info"] if s["category_id"] < 90}
        mine = [e for e in entries if e["image_id"] == image_id]
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


def test_crowds_are_run_lengths_and_things_polygons(dataset):
    entries = load(dataset[0], "instances_val")["annotations"]
    crowds = [entry for entry in entries if entry["iscrowd"]]
    assert crowds
    for entry in crowds:
        assert entry["segmentation"]["size"] == [64, 96]
        assert sum(entry["segmentation"]["counts"]) == 64 * 96
        assert entry["depth"] == 0
    for entry in entries:
        if not entry["iscrowd"]:
            (polygon,) = entry["segmentation"]
            assert len(polygon) >= 6
            assert len(polygon) % 2 == 0


def test_the_place_in_the_list_does_not_tell_the_depth(dataset):
    entries = load(dataset[0], "instances_val")["annotations"]
    later_is_nearer = [
        b["depth"] > a["depth"] for a, b in pairwise(entries) if a["image_id"] == b["image_id"]
    ]
    assert 0.3 < np.mean(later_is_nearer) < 0.7


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_the_reader_of_coco_reads_it(dataset, split):
    root, _ = dataset
    files = open_dataset(root, split)
    annotations = files.annotations
    assert annotations.categories == CategoryTable(TOY_CATEGORIES)
    for k, name in enumerate(annotations.file_names):
        ids = decode_segment_png(files.pngs.read(name), source=name)
        segments = annotations.segments(k)
        assert {s.id: s.area for s in segments} == {s.id: (ids == s.id).sum() for s in segments}
        things = [s.category for s in segments if s.is_thing]
        outlines = files.instances.of_image(int(annotations.image_ids[k]))
        assert things == [instance.category for instance in outlines]
        assert files.images.read(annotations.image_names[k]).startswith(b"\xff\xd8")


def test_files_do_not_depend_on_the_number_of_processes(tmp_path):
    write_toy_dataset(tmp_path / "one", SMALL)
    write_toy_dataset(tmp_path / "two", SMALL, num_processes=2)
    one, two = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    assert len(one) == 2 * 16 + 5
    assert one == two


def test_no_processes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="num_processes=0"):
        write_toy_dataset(tmp_path / "toy", SMALL, num_processes=0)


# --- ensuring and refusing

TINY = ToyOptions(num_train=2, num_val=1, height_px=32, width_px=48)


def test_ensure_writes_once(tmp_path):
    root = tmp_path / "data" / "toy"
    root.mkdir(parents=True)
    ensure_toy_dataset(root, TINY)
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    recorded = json.loads((root / "toy.json").read_text())["options"]
    assert ToyOptions(**recorded) == TINY
    assert "crowded" not in recorded  # scenes of before the option stay valid
    ensure_toy_dataset(root, TINY)
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before
    assert [p.name for p in root.parent.iterdir()] == ["toy"]  # no draft is left behind


def test_crowded_scenes_are_another_dataset(tmp_path):
    ensure_toy_dataset(tmp_path / "toy", TINY)
    with pytest.raises(RefineError, match='"crowded": true'):
        ensure_toy_dataset(tmp_path / "toy", replace(TINY, crowded=True))


def count_hidden(crowded):
    """Pairs of things of which the smaller one is half hidden."""
    options = ToyOptions(crowded=crowded, height_px=64, width_px=96)
    scenes = [generate_scene(options, "val", index).objects for index in range(20)]
    return sum(
        overlap(one.mask, other.mask) >= 0.45
        for objects in scenes
        for one, other in combinations([t for t in objects if not t.is_crowd], 2)
    )


def test_crowded_scenes_hide_more():
    assert count_hidden(crowded=True) > 2 * count_hidden(crowded=False)


def test_ensure_refuses_a_dataset_of_other_options(tmp_path):
    root = tmp_path / "toy"
    ensure_toy_dataset(root, TINY)
    with pytest.raises(RefineError, match=r"toy: this toy dataset was made with .*data\.root") as e:
        ensure_toy_dataset(root, replace(TINY, seed=3))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"options": {}}'])
def test_ensure_refuses_a_damaged_record(tmp_path, content):
    (tmp_path / "toy.json").write_text(content)
    with pytest.raises(RefineError, match=r"data\.root"):
        ensure_toy_dataset(tmp_path, TINY)


def test_somebody_else_s_folder_or_file_is_left_alone(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"precious")
    for root in (tmp_path, tmp_path / "photo.jpg"):
        with pytest.raises(RefineError, match="other than a toy dataset"):
            ensure_toy_dataset(root, TINY)
        with pytest.raises(RefineError, match="not empty"):
            write_toy_dataset(root, TINY)
    assert files_of(tmp_path) == {"photo.jpg": b"precious"}


def test_a_root_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RefineError, match=r"cannot write .*data\.root"):
        ensure_toy_dataset(tmp_path / "file" / "toy", TINY)


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
    if rival == TINY:
        ensure_toy_dataset(root, TINY)
    else:
        with pytest.raises(RefineError, match="was made with"):
            ensure_toy_dataset(root, TINY)
    ensure_toy_dataset(root, rival)
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]
