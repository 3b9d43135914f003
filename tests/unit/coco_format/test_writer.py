import json

import numpy as np
import pytest

from refine.categories import Category, CategoryTable
from refine.coco_format.annotations import load_panoptic_results
from refine.coco_format.png import decode_segment_png
from refine.coco_format.writer import PanopticWriter
from refine.errors import RefineError
from refine.types import PanopticPrediction, Segment

CATEGORIES = CategoryTable(
    [
        Category(dataset_id=7, name="cat", is_thing=True, color=(1, 2, 3)),
        Category(dataset_id=3, name="sky", is_thing=False, color=(4, 5, 6)),
    ]
)


def prediction():
    segment_map = np.zeros((6, 8), np.int32)
    segment_map[:2] = 70000
    segment_map[3:5, 1:4] = 2
    segment_map[5, 7] = 2
    segments = (
        Segment(id=2, category=0, is_thing=True, area=7, score=0.87654321),
        Segment(id=70000, category=1, is_thing=False, area=16),
    )
    return PanopticPrediction(segment_map=segment_map, segments=segments)


def nothing(height=3, width=4):
    return PanopticPrediction(segment_map=np.zeros((height, width), np.int32), segments=())


def test_files_of_a_run(tmp_path):
    with PanopticWriter(tmp_path / "out", CATEGORIES) as writer:
        writer.add(12, "folder/000012.jpg", prediction())
        writer.add(13, "13.png", nothing())
    out = tmp_path / "out"
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*")) == [
        "panoptic.json",
        "panoptic/000012.png",
        "panoptic/13.png",
    ]
    document = json.loads((out / "panoptic.json").read_text())
    assert document["images"] == [
        {"id": 12, "file_name": "folder/000012.jpg", "height": 6, "width": 8},
        {"id": 13, "file_name": "13.png", "height": 3, "width": 4},
    ]
    assert document["categories"] == CATEGORIES.to_json()
    first, second = document["annotations"]
    assert (first["image_id"], first["file_name"]) == (12, "000012.png")
    assert second == {"image_id": 13, "file_name": "13.png", "segments_info": []}
    cat, sky = first["segments_info"]
    assert cat == {
        "id": 2,
        "category_id": 7,
        "isthing": 1,
        "area": 7,
        "bbox": [1, 3, 7, 3],
        "iscrowd": 0,
        "score": 0.876543,
    }
    assert (sky["category_id"], sky["isthing"], sky["bbox"]) == (3, 0, [0, 0, 8, 2])
    png = (out / "panoptic" / "000012.png").read_bytes()
    assert (decode_segment_png(png, source="") == prediction().segment_map).all()


def test_what_is_written_can_be_read_as_results(tmp_path):
    with PanopticWriter(tmp_path, CATEGORIES) as writer:
        writer.add(12, "a.jpg", prediction())
        writer.add(13, "b.jpg", nothing())
    results = load_panoptic_results(tmp_path / "panoptic.json", CATEGORIES)
    assert results.file_names == {12: "a.png", 13: "b.png"}
    assert [(s.id, s.category, s.is_thing) for s in results.segments[12]] == [
        (2, 0, True),
        (70000, 1, False),
    ]
    assert results.segments[13] == ()


def test_images_that_would_overwrite_each_other_are_refused(tmp_path):
    writer = PanopticWriter(tmp_path, CATEGORIES)
    writer.add(1, "left/0001.jpg", nothing())
    with pytest.raises(RefineError, match=r"right/0001\.png: a second image called '0001'"):
        writer.add(2, "right/0001.png", nothing())


def test_a_failed_run_leaves_no_json(tmp_path):
    stray = PanopticPrediction(segment_map=np.full((2, 2), -1, np.int32), segments=())
    with pytest.raises(ValueError, match="24 bits"), PanopticWriter(tmp_path, CATEGORIES) as writer:
        writer.add(1, "a.jpg", stray)
    assert not (tmp_path / "panoptic.json").exists()
    assert not list(tmp_path.rglob("*.p*"))


def test_boxes_of_random_maps_are_tight(tmp_path):
    rng = np.random.default_rng(0)
    with PanopticWriter(tmp_path, CATEGORIES) as writer:
        maps = [rng.integers(0, 5, (rng.integers(1, 9), rng.integers(1, 9))) for _ in range(20)]
        for k, segment_map in enumerate(maps):
            segments = tuple(
                Segment(id=int(i), category=0, is_thing=True, area=1)
                for i in np.setdiff1d(segment_map, 0)
            )
            result = PanopticPrediction(segment_map=segment_map.astype(np.int32), segments=segments)
            writer.add(k, f"{k}.jpg", result)
    document = json.loads((tmp_path / "panoptic.json").read_text())
    for segment_map, annotation in zip(maps, document["annotations"], strict=True):
        for info in annotation["segments_info"]:
            rows, columns = np.nonzero(segment_map == info["id"])
            y, x = rows.min(), columns.min()
            size = [columns.max() - x + 1, rows.max() - y + 1]
            assert info["bbox"] == [x, y, *size]
