import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from make.errors import refused
from refine.coco_format.png import encode_segment_png
from refine.workflows.score_results import score_results

CATEGORIES = [
    {"id": 7, "name": "cat", "isthing": 1, "color": [1, 2, 3]},
    {"id": 3, "name": "sky", "isthing": 0, "color": [4, 5, 6]},
]
CAT, SKY = 70001, 300
GEOMETRY = {"area": 12, "iscrowd": 0, "bbox": [0, 0, 1, 1]}


class Files:
    """A ground truth of two images and a prediction equal to it, to be spoilt."""

    def __init__(self, root):
        self.root = root
        self.map = np.full((4, 6), SKY, np.int32)
        self.map[:, :3] = CAT
        images = [{"id": k, "file_name": f"{k}.jpg", "height": 4, "width": 6} for k in (1, 2)]
        self.gt = {"categories": CATEGORIES, "images": images}
        self.pred = {}
        for name, content, more in (("gt", self.gt, GEOMETRY), ("pred", self.pred, {})):
            (root / name).mkdir()
            content["annotations"] = []
            for k in (1, 2):
                self.write_png(name, k, self.map)
                segments = [{"id": i, "category_id": c, **more} for i, c in ((CAT, 7), (SKY, 3))]
                content["annotations"].append(
                    {"image_id": k, "file_name": f"{k}.png", "segments_info": segments}
                )

    def write_png(self, folder, k, segment_map):
        (self.root / folder / f"{k}.png").write_bytes(encode_segment_png(segment_map))

    def score(self, **kwargs):
        for name in ("gt", "pred"):
            (self.root / f"{name}.json").write_text(json.dumps(getattr(self, name)))
        return score_results(self.root / "gt.json", self.root / "pred.json", **kwargs)


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


@pytest.mark.parametrize("num_workers", [0, 3])
def test_ground_truth_against_itself_is_one(files, num_workers):
    result = files.score(num_workers=num_workers)
    assert result.metrics == dict.fromkeys(result.metrics, 1.0) | {"num_images": 2}
    assert [(r.category_id, r.tp, r.fp, r.fn) for r in result.rows] == [(7, 2, 0, 0), (3, 2, 0, 0)]
    assert [r.iou for r in result.rows] == [2.0, 2.0]
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
    assert result.metrics["num_images"] == 2


def _segments(files, k=1):
    return files.pred["annotations"][k]["segments_info"]


def test_names_of_images_are_compared_where_both_files_have_them(files):
    files.pred["images"] = [{"id": 1, "file_name": "folder/1.png"}]
    assert files.score().metrics["pq"] == 1.0
    files.pred["images"] = [{"id": k, "file_name": f"{3 - k}.jpg"} for k in (1, 2)]
    with refused("pred.json: image id 1 is '2.jpg', but '1.jpg' in", "gt.json", "ids_from="):
        files.score()


MISTAKES = {  # the first four are refused by panopticapi, too
    "missing prediction": (lambda f: f.pred["annotations"].pop(), ["no prediction for image 2;"]),
    "id in the PNG only": (
        lambda f: _segments(f).pop(0),
        ["image 2 (", "pred/2.png", f"id {CAT} is in the predicted map but not among its segments"],
    ),
    "id in the JSON only": (
        lambda f: _segments(f, 0).append({"id": 5, "category_id": 7}),
        ["image 1 (", "id 5 is among the predicted segments but not in their map"],
    ),
    "unknown category": (
        lambda f: _segments(f)[1].update(category_id=8),
        ["pred.json: image 2", "'category_id' is 8"],
    ),
    "two segments of an id": (
        lambda f: _segments(f, 0).append({"id": CAT, "category_id": 3}),
        [f"image 1: segments_info[2]: 'id' is {CAT}; the image has it twice"],
    ),
    "maps of different sizes": (
        lambda f: f.write_png("pred", 2, f.map[:, :5]),
        ["pred/2.png: 5 x 4 pixels, but the JSON says 6 x 4"],
    ),
    "impossible area": (
        lambda f: f.gt["annotations"][0]["segments_info"][0].update(area=3),
        ["gt/1.png", f"segment id {CAT}", "'area' 3, but it has 12 pixels"],
    ),
    "true areas too large": (
        lambda f: f.gt["annotations"][1]["segments_info"][1].update(area=13),
        ["gt/2.png", f"segment id {SKY}", "'area' 13, but it has 12 pixels"],
    ),
    "true PNG as BGR": (
        lambda f: f.write_png("gt", 2, f.map >> 16 | f.map & 0xFF00 | f.map % 256 << 16),
        ["gt/2.png", "red and blue swapped"],
    ),
    "true id in the PNG only": (
        lambda f: f.gt["annotations"][0]["segments_info"].pop(0),
        ["gt/1.png", f"segment id {CAT} is not in the JSON"],
    ),
    **{
        f"segment {bad}": (
            lambda f, bad=bad: _segments(f).__setitem__(0, bad),
            ["pred.json: image 2: segments_info[0]"],
        )
        for bad in (3, {"id": 0, "category_id": 7}, {"id": 2**24, "category_id": 7})
    },
    **{
        f"{key} is {value}": (
            lambda f, key=key, value=value: f.pred["annotations"][1].update({key: value}),
            ["pred.json: annotations[1]"],
        )
        for key, value in (
            ("image_id", "1"), ("image_id", None), ("segments_info", None), ("file_name", 3)
        )
    },
    **{
        f"no {key}": (
            lambda f, key=key: f.pred["annotations"][1].pop(key), [f"'{key}' is missing"],
        )
        for key in ("image_id", "segments_info", "file_name")
    },
}  # fmt: skip
MISTAKES_OF_EITHER = {
    "twice": (
        lambda f, name: getattr(f, name)["annotations"].append(getattr(f, name)["annotations"][0]),
        "{name}.json: ",
    ),
    "empty": (lambda f, name: getattr(f, name)["annotations"].clear(), "{name}.json"),
    "truncated PNG": (
        lambda f, name: os.truncate(f.root / name / "2.png", 60),
        "{name}/2.png: damaged PNG",
    ),
    "missing PNG": (lambda f, name: (f.root / name / "2.png").unlink(), "2.png"),
    "missing folder": (
        lambda f, name: (f.root / name).rename(f.root / "away"),
        "{name}: no such folder; name the folder of PNGs with {name}_dir=",
    ),
    **{
        f"stray {stray}": (
            lambda f, name, stray=stray: getattr(f, name)["annotations"][1].update(file_name=stray),
            "file_name",
        )
        for stray in ("../gt/2.png", "/etc/2.png", "a/../../2.png", "")
    },
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(files, mistake):
    spoil, expected = MISTAKES[mistake]
    spoil(files)
    with refused(*expected):
        files.score()


@pytest.mark.parametrize("name", ["gt", "pred"])
@pytest.mark.parametrize("mistake", MISTAKES_OF_EITHER)
def test_a_mistake_in_either_is_named(files, name, mistake):
    spoil, expected = MISTAKES_OF_EITHER[mistake]
    spoil(files, name)
    with refused(expected.format(name=name)):
        files.score()


@pytest.mark.parametrize("name", ["gt", "pred"])
def test_a_truncated_missing_or_odd_json(files, name):
    files.score()
    path = files.root / f"{name}.json"
    whole = path.read_bytes()
    for content in (whole[:-9], b"", b"[]", b"{}", b"\xff\xfe", b'{"annotations": 3}', None):
        path.unlink() if content is None else path.write_bytes(content)
        with refused(f"{name}.json: "):
            score_results(files.root / "gt.json", files.root / "pred.json")


def test_bad_input_is_answered_without_the_heavy_libraries():
    heavy = ("torch", "torchvision", "torchmetrics", "pytorch_lightning", "scipy", "pycocotools")
    code = (
        "import sys; from pathlib import Path; import refine.workflows.score_results as s\n"
        "try: s.score_results(Path('no.json'), Path('no.json'))\n"
        f"except s.RefineError: print([m for m in {heavy} if m in sys.modules])"
    )
    before = sum(os.times()[2:4])  # of the processor, of children
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"
    assert sum(os.times()[2:4]) - before < 4
