import json
import os

import numpy as np
import pytest

from make.pictures import CATEGORIES
from make.pictures import prediction as predict
from refine.coco_format.annotations import load_panoptic_results
from refine.coco_format.png import decode_segment_png
from refine.coco_format.writer import PanopticWriter
from refine.errors import RefineError
from refine.types import PanopticPrediction, Segment


def prediction():
    segment_map = np.zeros((6, 8), np.int32)
    segment_map[:2] = 70000
    segment_map[3:5, 1:4] = 2
    segment_map[5, 7] = 2
    segments = (
        Segment(id=2, category=0, is_thing=True, area=7, score=0.87654321),
        Segment(id=70000, category=2, is_thing=False, area=16),
    )
    return PanopticPrediction(segment_map=segment_map, segments=segments)


def test_files_of_a_run(tmp_path):
    with PanopticWriter(tmp_path / "out", CATEGORIES) as writer:
        writer.add(12, "folder/000012.jpg", prediction(), png_name="000012.png")
        writer.add(13, "13.png", predict(np.zeros((3, 4)), {}), png_name="13.png")
    out = tmp_path / "out"
    names = {p.relative_to(out).as_posix() for p in out.rglob("*.*")}
    assert names == {"panoptic.json", "panoptic/000012.png", "panoptic/13.png"}
    document = json.loads((out / "panoptic.json").read_text())
    assert document["images"] == [
        {"id": 12, "file_name": "folder/000012.jpg", "height": 6, "width": 8},
        {"id": 13, "file_name": "13.png", "height": 3, "width": 4},
    ]
    assert document["categories"] == CATEGORIES.to_json()
    cat = {"id": 2, "category_id": 1, "isthing": 1, "area": 7, "bbox": [1, 3, 7, 3]}
    grass = {"id": 70000, "category_id": 3, "isthing": 0, "area": 16, "bbox": [0, 0, 8, 2]}
    infos = [cat | {"iscrowd": 0, "score": 0.876543}, grass | {"iscrowd": 0, "score": 1.0}]
    assert document["annotations"] == [
        {"image_id": 12, "file_name": "000012.png", "segments_info": infos},
        {"image_id": 13, "file_name": "13.png", "segments_info": []},
    ]
    png = (out / "panoptic" / "000012.png").read_bytes()
    assert (decode_segment_png(png, source="") == prediction().segment_map).all()
    results = load_panoptic_results(out / "panoptic.json", CATEGORIES)
    assert results.file_names == {12: "000012.png", 13: "13.png"}
    segments = [(s.id, s.category, s.is_thing) for s in results.segments[12]]
    assert segments == [(2, 0, True), (70000, 2, False)]
    assert results.segments[13] == ()


def test_images_that_would_overwrite_each_other_are_refused(tmp_path):
    writer = PanopticWriter(tmp_path, CATEGORIES)
    writer.add(1, "left/0001.jpg", prediction(), png_name="0001.png")
    with pytest.raises(RefineError, match=r"right/0001\.png: a second image called '0001'"):
        writer.add(2, "right/0001.png", prediction(), png_name="0001.png")


def test_a_failed_run_leaves_no_json(tmp_path):
    stray = predict(np.full((2, 2), -1), {})
    with pytest.raises(ValueError, match="24 bits"), PanopticWriter(tmp_path, CATEGORIES) as writer:
        writer.add(1, "a.jpg", stray, png_name="a.png")
    assert not list(tmp_path.rglob("*.p*"))
    assert not (tmp_path / "panoptic.json").exists()


def test_pngs_are_on_the_disk_before_the_json_names_them(tmp_path, monkeypatch):
    synced = []

    def fsync(descriptor):
        synced.append(os.fstat(descriptor).st_ino)
        assert not (tmp_path / "panoptic.json").exists()

    monkeypatch.setattr(os, "fsync", fsync)
    with PanopticWriter(tmp_path, CATEGORIES) as writer:
        for k in range(3):
            writer.add(k, f"{k}.jpg", prediction(), png_name=f"{k}.png")
    pngs = {path.stat().st_ino for path in (tmp_path / "panoptic").iterdir()}
    json_file = (tmp_path / "panoptic.json").stat().st_ino
    assert len(pngs) == 3
    assert set(synced[:3]) == pngs
    assert synced[3:] == [json_file]
