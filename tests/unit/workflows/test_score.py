import json
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from refine.coco_format.png import encode_segment_png
from refine.errors import RefineError
from refine.workflows.score_results import score_results

CATEGORIES = [
    {"id": 7, "name": "cat", "isthing": 1, "color": [1, 2, 3]},
    {"id": 3, "name": "sky", "isthing": 0, "color": [4, 5, 6]},
]
CAT, SKY = 70001, 300


def segment(segment_id, category_id, area=None):
    info = {"id": segment_id, "category_id": category_id}
    return info if area is None else {**info, "area": area, "iscrowd": 0, "bbox": [0, 0, 1, 1]}


class Files:
    """A ground truth of two images and a prediction equal to it, to be spoilt."""

    def __init__(self, root):
        self.root = root
        self.map = np.full((4, 6), SKY, np.int32)
        self.map[:, :3] = CAT
        for folder in ("gt", "pred"):
            (root / folder).mkdir()
            for k in (1, 2):
                self.write_png(folder, k, self.map)
        self.gt = {
            "categories": CATEGORIES,
            "images": [{"id": k, "file_name": f"{k}.jpg", "height": 4, "width": 6} for k in (1, 2)],
            "annotations": [
                {
                    "image_id": k,
                    "file_name": f"{k}.png",
                    "segments_info": [segment(CAT, 7, 12), segment(SKY, 3, 12)],
                }
                for k in (1, 2)
            ],
        }
        self.pred = {
            "annotations": [
                {
                    "image_id": k,
                    "file_name": f"{k}.png",
                    "segments_info": [segment(CAT, 7), segment(SKY, 3)],
                }
                for k in (1, 2)
            ]
        }

    def write_png(self, folder, k, segment_map):
        (self.root / folder / f"{k}.png").write_bytes(encode_segment_png(segment_map))

    def score(self, **kwargs):
        for name in ("gt", "pred"):
            (self.root / f"{name}.json").write_text(json.dumps(getattr(self, name)))
        return score_results(self.root / "gt.json", self.root / "pred.json", **kwargs)

    def refusal(self, **kwargs):
        with pytest.raises(RefineError) as caught:
            self.score(**kwargs)
        assert "\n" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_ground_truth_against_itself_is_one(files, num_workers):
    result = files.score(num_workers=num_workers)
    assert set(result.metrics.values()) == {1.0}
    assert result.num_images == 2
    assert [(r.category_id, r.tp, r.fp, r.fn) for r in result.rows] == [(7, 2, 0, 0), (3, 2, 0, 0)]
    assert result.stats.iou.tolist() == [2.0, 2.0]
    assert result.groups["all"] == (1, 1, 1, 2)


def test_folders_can_be_named_and_zipped(files, tmp_path):
    files.root.joinpath("pred").rename(tmp_path / "elsewhere")
    assert files.score(pred_dir=tmp_path / "elsewhere").metrics["pq"] == 1.0
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for k in (1, 2):
            archive.write(tmp_path / "elsewhere" / f"{k}.png", f"mine/{k}.png")
    assert files.score(pred_dir=tmp_path / "mine.zip").metrics["pq"] == 1.0


def test_an_image_without_segments_and_one_too_many(files):
    files.pred["annotations"][0]["segments_info"] = []
    files.write_png("pred", 1, np.zeros((4, 6), np.int32))
    files.pred["annotations"].append({"image_id": 99, "file_name": "x.png", "segments_info": []})
    result = files.score()
    assert [(r.tp, r.fp, r.fn) for r in result.rows] == [(1, 0, 1), (1, 0, 1)]
    assert result.num_images == 2


def _annotations(files, k=1):
    return files.pred["annotations"][k]


def _segments(files, k=1):
    return _annotations(files, k)["segments_info"]


MISTAKES = {  # the first four are refused by panopticapi, too
    "missing prediction": (
        lambda f: f.pred["annotations"].pop(),
        ["no prediction for image 2;"],
    ),
    "id in the PNG only": (
        lambda f: _segments(f).pop(0),
        ["image 2 (", "pred/2.png", f"id {CAT} is in the predicted map but not among its segments"],
    ),
    "id in the JSON only": (
        lambda f: _segments(f, 0).append(segment(5, 7)),
        ["image 1 (", "id 5 is among the predicted segments but not in their map"],
    ),
    "unknown category": (
        lambda f: _segments(f)[1].update(category_id=8),
        ["pred.json: image 2", "'category_id' is 8"],
    ),
    "two segments of an id": (
        lambda f: _segments(f, 0).append(segment(CAT, 3)),
        [f"image 1: segments_info[2]: 'id' is {CAT}; the image has it twice"],
    ),
    "maps of different sizes": (
        lambda f: f.write_png("pred", 2, f.map[:, :5]),
        ["image 2 (", "the predicted map is 4 x 5, the true one 4 x 6"],
    ),
    "impossible area": (
        lambda f: f.gt["annotations"][0]["segments_info"][0].update(area=3),
        [f"true segment {CAT} states an area smaller than its pixels"],
    ),
    **{
        f"segment {bad}": (
            lambda f, bad=bad: _segments(f).__setitem__(0, bad),
            ["pred.json: image 2: segments_info[0]"],
        )
        for bad in (3, {"id": 0, "category_id": 7}, {"id": 2**24, "category_id": 7})
    },
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(files, mistake):
    spoil, expected = MISTAKES[mistake]
    spoil(files)
    text = files.refusal()
    assert all(part in text for part in expected), text


@pytest.mark.parametrize("name", ["gt", "pred"])
def test_annotations_that_are_missing_or_there_twice(files, name):
    annotations = getattr(files, name)["annotations"]
    annotations.append(annotations[0])
    text = files.refusal()
    assert f"{name}.json" in text
    assert "twice" in text or "two annotations" in text
    annotations.clear()
    assert f"{name}.json" in files.refusal()


@pytest.mark.parametrize("folder", ["gt", "pred"])
def test_a_truncated_or_missing_png(files, folder):
    png = files.root / folder / "2.png"
    png.write_bytes(png.read_bytes()[:-30])
    assert f"{folder}/2.png: damaged PNG" in files.refusal()
    png.unlink()
    assert "2.png" in files.refusal()


@pytest.mark.parametrize("name", ["gt", "pred"])
def test_a_truncated_missing_or_odd_json(files, name):
    files.score()
    path = files.root / f"{name}.json"
    whole = path.read_bytes()
    for content in (whole[:-9], b"", b"[]", b"{}", b"\xff\xfe", b'{"annotations": 3}'):
        path.write_bytes(content)
        with pytest.raises(RefineError, match=rf"{name}\.json: [^\n]+$"):
            score_results(files.root / "gt.json", files.root / "pred.json")
    path.unlink()
    with pytest.raises(RefineError, match=rf"{name}\.json: "):
        score_results(files.root / "gt.json", files.root / "pred.json")


@pytest.mark.parametrize("name", ["gt", "pred"])
def test_a_missing_folder_names_the_argument(files, name):
    (files.root / name).rename(files.root / "away")
    assert f"{name}: no such folder; name the folder of PNGs with {name}_dir=" in files.refusal()


@pytest.mark.parametrize("stray", ["../gt/2.png", "/etc/2.png", "a/../../2.png", ""])
@pytest.mark.parametrize("name", ["gt", "pred"])
def test_names_that_lead_outside(files, name, stray):
    getattr(files, name)["annotations"][1]["file_name"] = stray
    text = files.refusal()
    assert f"{name}.json" in text
    assert "file_name" in text


@pytest.mark.parametrize(
    ("key", "value"),
    [("image_id", "1"), ("image_id", None), ("segments_info", None), ("file_name", 3)],
)
def test_malformed_annotations(files, key, value):
    files.pred["annotations"][1][key] = value
    assert "pred.json: annotations[1]" in files.refusal()
    del files.pred["annotations"][1][key]
    assert f"'{key}' is missing" in files.refusal()


def test_bad_input_is_answered_without_the_heavy_libraries(tmp_path):
    heavy = ("torch", "torchvision", "torchmetrics", "pytorch_lightning", "scipy", "pycocotools")
    code = (
        "import sys; from pathlib import Path; import refine.workflows.score_results as s\n"
        "try: s.score_results(Path('no.json'), Path('no.json'))\n"
        f"except s.RefineError: print([m for m in {heavy} if m in sys.modules])"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"
    assert time.perf_counter() - start < 4
