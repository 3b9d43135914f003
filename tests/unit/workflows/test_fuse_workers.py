"""``refine.fuse`` on many images at once: in this process, or in several."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from make.errors import refused
from oracles.combine import combine
from refine.coco_format.png import decode_segment_png
from refine.config import compose
from refine.workflows.fuse_results import fuse_results

CATEGORIES = [
    {"id": 0, "name": "cat", "isthing": 1},
    {"id": 4, "name": "sky", "isthing": 0},
    {"id": 9, "name": "sea", "isthing": 0},
]


class Files:
    """Images of different sizes, in no order of their ids; rectangles on halves of sky and sea."""

    def __init__(self, root, sizes):
        self.root, rng = root, np.random.default_rng(0)
        ids = rng.permutation(len(sizes)).tolist()
        self.sizes, self.masks, self.stuff = dict(zip(ids, sizes, strict=True)), {}, {}
        for k, size in self.sizes.items():
            is_sky = np.arange(size[0])[:, None] + np.zeros(size, int) < size[0] // 2
            count = rng.integers(0, 5)  # with none, there is no stuff either
            self.masks[k] = [(self._rectangle(rng, size), 0, rng.random()) for _ in range(count)]
            self.stuff[k] = [(is_sky, 4), (~is_sky, 9)] if count else []
        instances = [self.code(k, *part) for k, parts in self.masks.items() for part in parts]
        self.semantics = [self.code(k, *part, 1.0) for k, p in self.stuff.items() for part in p]
        images = [
            {"id": k, "file_name": f"{k}.jpg", "height": h, "width": w}
            for k, (h, w) in self.sizes.items()
        ]
        self.write("info", {"images": images, "categories": CATEGORIES})
        self.write("instances", rng.permutation(instances).tolist())
        self.write("semantic", self.semantics)

    def _rectangle(self, rng, size):
        mask = np.zeros(size, bool)
        (top, bottom), (left, right) = (np.sort(rng.integers(0, side + 1, 2)) for side in size)
        mask[top:bottom, left:right] = True
        return mask

    def code(self, image_id, mask, category_id, score):
        packed = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        coded = {"size": [*mask.shape], "counts": packed["counts"].decode()}
        entry = {"image_id": image_id, "category_id": category_id, "score": score}
        return entry | {"segmentation": coded}

    def write(self, name, content):
        (self.root / f"{name}.json").write_text(json.dumps(content))

    def fuse(self, num_workers, out, **changed):
        names = {"instances": "instances.json", "semantic": "semantic.json"}
        names |= {"images_json": "info.json", "out": out} | changed
        given = [f"{key}={self.root}/{name}" for key, name in names.items()]
        fuse_results(compose("fuse", [*given, f"num_workers={num_workers}"]))
        return self.root / out


def test_images_of_different_sizes_are_combined_each_for_itself(tmp_path):
    sizes = np.random.default_rng(1).integers(1, 200, (40, 2)).tolist()
    files = Files(tmp_path, [tuple(size) for size in sizes])
    out = files.fuse(0, "out")
    document = json.loads((out / "panoptic.json").read_text())
    assert [i["id"] for i in document["images"]] == [*files.sizes]
    assert [a["image_id"] for a in document["annotations"]] == [*files.sizes]
    for annotation in document["annotations"]:
        k = annotation["image_id"]
        png = (out / "panoptic" / annotation["file_name"]).read_bytes()
        ids = decode_segment_png(png, source="", size=files.sizes[k])
        expected = combine(files.masks[k], files.stuff[k], files.sizes[k], stuff_limit=4096)
        found = [(s["category_id"], ids == s["id"]) for s in annotation["segments_info"]]
        assert [c for c, _ in found] == [c for c, _ in expected]
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(found, expected, strict=True))


LARGE = [(1000 + 13 * k, 1900 - 11 * k) for k in range(9)]  # a task each


@pytest.mark.parametrize("semantic", ["semantic.json", "maps"])
def test_the_files_are_the_same_whatever_the_number_of_workers(tmp_path, semantic):
    files = Files(tmp_path, LARGE)
    (tmp_path / "maps").mkdir()
    for k, size in files.sizes.items():
        labels = np.full(size, 255, np.uint8)
        for mask, category in files.stuff[k]:
            labels[mask] = category
        Image.fromarray(labels).save(tmp_path / "maps" / f"{k}.png")
    written = []
    for num_workers in (0, 1, 2):
        out = files.fuse(num_workers, f"out{num_workers}", semantic=semantic)
        paths = sorted(path for path in out.rglob("*") if path.is_file())
        written.append({path.relative_to(out).as_posix(): path.read_bytes() for path in paths})
    assert len(written[0]) == 1 + len(LARGE)
    assert written[0] == written[1] == written[2]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_of_a_worker_is_one_line_and_nothing_is_half_written(tmp_path, num_workers):
    files = Files(tmp_path, LARGE)
    last = [k for k, stuff in files.stuff.items() if stuff][-1]
    whole = files.code(last, np.ones(files.sizes[last], bool), 9, 1.0)
    files.write("semantic", [*files.semantics, whole])
    with refused("semantic.json: image", f"image {last}:", "overlap; give each pixel one category"):
        files.fuse(num_workers, "out")
    assert {p.suffix for p in (tmp_path / "out").rglob("*") if p.is_file()} <= {".png"}


def test_two_images_of_one_name_are_refused_before_anything_is_written(tmp_path):
    files = Files(tmp_path, [(5, 7), (6, 4)])
    info = json.loads((tmp_path / "info.json").read_text())
    for image, name in zip(info["images"], ("a/1.jpg", "a/1.png"), strict=True):
        image["file_name"] = name
    files.write("info", info)
    with refused("a/1.png", "second image called 'a/1'"):
        files.fuse(0, "out")
    assert [*(tmp_path / "out").rglob("*.*")] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_ends_them_in_one_line(tmp_path, number):
    sizes = dict.fromkeys(range(600), (1500, 1500))
    images = [
        {"id": k, "file_name": f"{k}.jpg", "height": h, "width": w} for k, (h, w) in sizes.items()
    ]
    (tmp_path / "info.json").write_text(json.dumps({"images": images, "categories": CATEGORIES}))
    (tmp_path / "none.json").write_text("[]")
    given = ["instances=none.json", "semantic=none.json", "images_json=info.json", "out=out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "refine.fuse", *given, "num_workers=2"],
        cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        while not (tmp_path / "out" / "panoptic" / "20.png").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        os.killpg(process.pid, number)
        _, error = process.communicate(timeout=60)  # all processes have closed it
    finally:
        process.kill()
    assert (process.returncode, error) == (128 + number, "interrupted\n")
    assert {p.suffix for p in (tmp_path / "out").rglob("*") if p.is_file()} == {".png"}
