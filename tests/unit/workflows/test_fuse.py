"""``refine.fuse`` on files of random masks, against the official combination of results."""

import json
import zlib

import numpy as np
import pytest
import safetensors.numpy
import torch
import torch.nn.functional as F
from PIL import Image
from pycocotools import mask as coco_mask

from make.commands import run_main
from make.errors import refused
from oracles.combine import combine
from refine.coco_format.png import decode_segment_png, encode_segment_png
from refine.config import compose
from refine.workflows.fuse_results import fuse_results

SIZE = (24, 36)
CATEGORIES = [  # contiguous: cat, dog, sky, sea
    {"id": 9, "name": "sea", "isthing": 0},
    {"id": 7, "name": "cat", "isthing": 1},
    {"id": 8, "name": "dog", "isthing": 1},
    {"id": 3, "name": "sky", "isthing": 0},
]
STUFF = {3: 2, 9: 3}


def coded(mask):
    packed = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [*mask.shape], "counts": packed["counts"].decode()}


class Files:
    """Two images with random rectangles as instances and random stuff."""

    def __init__(self, root, rng):
        self.root, self.rng = root, rng
        self.images = [
            {"id": k, "file_name": f"{k}.jpg", "height": SIZE[0], "width": SIZE[1]} for k in (5, 2)
        ]
        self.masks, self.labels = {}, {}
        for k in (5, 2):
            self.masks[k] = [self._rectangle() for _ in range(9)]
            coarse = rng.choice([0, 3, 9, 7], (4, 6))
            self.labels[k] = coarse.repeat(6, axis=0).repeat(6, axis=1)
        self.results = [
            {"image_id": k, "category_id": c, "score": s, "segmentation": coded(mask)}
            for k, found in self.masks.items()
            for mask, c, s in found
        ]

    def _rectangle(self):
        y, x, height, width = self.rng.integers(0, 14, 4)
        mask = np.zeros(SIZE, bool)
        mask[y : y + height, x : x + 2 * width] = True
        return mask, int(self.rng.choice([7, 8])), float(self.rng.choice([0.2, 0.5, 0.7, 0.9]))

    def stuff_of(self, k):
        return [(self.labels[k] == c, c) for c in STUFF]

    def write(self):
        info = {"images": self.images, "categories": CATEGORIES}
        (self.root / "info.json").write_text(json.dumps(info))
        (self.root / "results.json").write_text(json.dumps(self.results))
        (self.root / "semantic").mkdir()
        stuff = [
            {"image_id": k, "category_id": c, "segmentation": coded(mask)}
            for k in self.labels
            for mask, c in self.stuff_of(k)
        ]
        (self.root / "stuff.json").write_text(json.dumps(stuff))
        for k, labels in self.labels.items():
            Image.fromarray(labels.astype(np.uint8)).save(self.root / "semantic" / f"{k}.png")

    def fuse(self, *overrides, semantic="semantic"):
        """The segments of each image as written, ``(category, mask)`` in the file's order."""
        given = ["instances=results.json", f"semantic={semantic}", "images_json=info.json"]
        out = self.root / "out"
        names = [g.replace("=", f"={self.root}/") for g in given]
        fuse_results(compose("fuse", [*names, f"out={out}", *overrides]))
        document = json.loads((out / "panoptic.json").read_text())
        return {a["image_id"]: self._segments(a) for a in document["annotations"]}

    def _segments(self, annotation):
        path = self.root / "out" / "panoptic" / annotation["file_name"]
        ids = decode_segment_png(path.read_bytes(), source=path.name)
        return [(s["category_id"], ids == s["id"]) for s in annotation["segments_info"]]


@pytest.fixture
def files(tmp_path, request):
    made = Files(tmp_path, np.random.default_rng(zlib.crc32(request.node.name.encode())))
    made.write()
    return made


def assert_equal(found, expected):
    assert [c for c, _ in found] == [c for c, _ in expected]
    for (_, ours), (_, theirs) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("semantic", ["semantic", "stuff.json"])
@pytest.mark.parametrize(("confidence", "overlap", "limit"), [(0.5, 0.5, 40), (0.3, 0.2, 1)])
@pytest.mark.parametrize("attempt", range(4))
def test_the_heuristic_is_the_official_combination(
    files, semantic, confidence, overlap, limit, attempt
):
    found = files.fuse(
        f"fusion.merge.score_thresh={confidence}",
        f"fusion.merge.overlap_thresh={overlap}",
        f"stuff_area_limit_px={limit}",
        semantic=semantic,
    )
    assert [*found] == [5, 2]
    for k, segments in found.items():
        knobs = {"confidence": confidence, "overlap": overlap, "stuff_limit": limit}
        expected = combine(files.masks[k], files.stuff_of(k), SIZE, **knobs)
        assert_equal(segments, expected)


def test_polygons_and_images_without_any_prediction(files):
    files.results = [
        {"image_id": 2, "category_id": 7, "score": 1, "segmentation": [[4, 2, 4, 10, 9, 10, 9, 2]]}
    ]
    (files.root / "results.json").write_text(json.dumps(files.results))
    (files.root / "stuff.json").write_text("[]")
    found = files.fuse(semantic="stuff.json")
    ((category, mask),) = found[2]
    assert (category, mask.sum()) == (7, 40)
    assert mask[2:10, 4:9].all()
    assert found[5] == []


@pytest.mark.parametrize("kind", ["npz", "npy", "safetensors", "whole npz"])
def test_probabilities_of_any_stride_in_the_order_of_the_json(files, kind):
    ids = [c["id"] for c in CATEGORIES]
    for k in (5, 2):
        (files.root / "semantic" / f"{k}.png").unlink()
    shares = {k: files.rng.dirichlet(np.ones(4), (6, 9)).transpose(2, 0, 1) for k in (5, 2)}
    shares = {k: np.ascontiguousarray(v, np.float32) for k, v in shares.items()}
    if kind == "whole npz":
        np.savez_compressed(files.root / "semantic.npz", **{str(k): v for k, v in shares.items()})
    for k, values in shares.items():
        path = files.root / "semantic" / f"{k}.{kind}"
        if kind == "npz":
            np.savez(path, values)
        elif kind == "npy":
            np.save(path, values)
        elif kind == "safetensors":
            safetensors.numpy.save_file({"x": values}, path)
    where = "semantic.npz" if kind == "whole npz" else "semantic"
    found = files.fuse("stuff_area_limit_px=1", semantic=where)
    for k, values in shares.items():
        full = F.interpolate(torch.from_numpy(values)[None], SIZE, mode="bilinear")[0].numpy()
        stuff = [(full.argmax(axis=0) == ids.index(c), c) for c in STUFF]
        assert_equal(found[k], combine(files.masks[k], stuff, SIZE, stuff_limit=1))
    erased = files.fuse(
        "stuff_area_limit_px=1", "fusion.unknown_erasing.mode=score",
        "fusion.unknown_erasing.score_thresh=1", semantic=where,
    )  # fmt: skip
    for k, segments in erased.items():  # no region is certain
        assert_equal(segments, combine(files.masks[k], [], SIZE))


def test_the_true_order_and_the_score(files):
    truth = np.full(SIZE, 3, np.int32)
    truth[:, :20], truth[:, 20:24] = 1, 2
    (files.root / "info").mkdir()
    (files.root / "info" / "5.png").write_bytes(encode_segment_png(truth))
    areas = {i: int((truth == i).sum()) for i in (1, 2, 3)}
    infos = [
        {"id": i, "category_id": c, "iscrowd": 0, "area": areas[i], "bbox": [0, 0, 1, 1]}
        for i, c in ((1, 7), (2, 8), (3, 9))
    ]
    annotations = [{"image_id": 5, "file_name": "5.png", "segments_info": infos}]
    info = {"images": files.images[:1], "categories": CATEGORIES, "annotations": annotations}
    (files.root / "info.json").write_text(json.dumps(info))
    below = np.where(truth == 2, 1, truth) == 1
    results = [
        {"image_id": 5, "category_id": 7, "score": 0.9, "segmentation": coded(below)},
        {"image_id": 5, "category_id": 8, "score": 0.8, "segmentation": coded(truth == 2)},
    ]
    (files.root / "results.json").write_text(json.dumps(results))
    sea = [{"image_id": 5, "category_id": 9, "segmentation": coded(truth == 3)}]
    (files.root / "stuff.json").write_text(json.dumps(sea))
    given = [f"instances={files.root}/results.json", f"semantic={files.root}/stuff.json"]
    given += [f"gt_json={files.root}/info.json", f"out={files.root}/out", "stuff_area_limit_px=1"]
    quality = fuse_results(compose("fuse", given))
    assert quality["pq"] == pytest.approx((20 / 24 + 0 + 1) / 3)
    quality = fuse_results(compose("fuse", [*given, "fusion=oracle"]))
    assert quality["pq"] == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"segmentation": None}, ["results.json", "results[3]", "boxes alone", "give polygons"]),
        ({"image_id": 99}, ["results.json", "results[3]", "image id 99", "info.json"]),
        ({"category_id": 3}, ["results[3]", "'category_id' is 3", "thing"]),
        ({"category_id": 4}, ["results[3]", "'category_id' is 4"]),
        ({"score": 1.5}, ["results[3]", "'score' is 1.5", "[0, 1]"]),
        ({"score": None}, ["results[3]", "'score' is missing"]),
        ({"segmentation": coded(np.zeros((3, 3)))}, ["results[3]", "size", "[3, 3]", "[24, 36]"]),
        ({"segmentation": {"size": [24, 36], "counts": "1"}}, ["results[3]", "runs", "cover"]),
    ],
)
def test_bad_instances_are_refused(files, change, words):
    files.results[3]["score"] = 0.9  # what scores too low is not decoded
    changed = files.results[3] | change
    files.results[3] = {k: v for k, v in changed.items() if v is not None}
    (files.root / "results.json").write_text(json.dumps(files.results))
    with refused(*words):
        files.fuse()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((5, 7), np.uint8), ["5.npy", "7 x 5", "36 x 24"]),
        (np.full(SIZE, 77), ["5.npy", "category id 77"]),
        (np.full(SIZE, -1), ["5.npy", "category id -1"]),
        (np.zeros((3, 6, 9), np.float32), ["5.npy", "(3, 6, 9)", "[4, h, w]"]),
        (np.zeros((4, 6, 12), np.float32), ["5.npy", "proportions", "24 x 36"]),
        (np.full((4, 6, 9), np.nan, np.float32), ["semantic", "finite"]),
    ],
)
def test_bad_semantics_are_refused(files, values, words):
    (files.root / "semantic" / "5.png").unlink()
    np.save(files.root / "semantic" / "5.npy", values)
    with refused(*words):
        files.fuse()


def test_a_panoptic_png_a_missing_file_and_overlapping_stuff_are_refused(files):
    path = files.root / "semantic" / "5.png"
    path.write_bytes(encode_segment_png(np.ones(SIZE, np.int32)))
    with refused("5.png", "RGB", "grey"):
        files.fuse()
    path.unlink()
    with refused("semantic", "5.png"):
        files.fuse()
    whole = coded(np.ones(SIZE))
    both = [{"image_id": 2, "category_id": c, "segmentation": whole} for c in STUFF]
    (files.root / "stuff.json").write_text(json.dumps(both))
    with refused("stuff.json", "image 2", "overlap"):
        files.fuse(semantic="stuff.json")


def test_masks_of_one_stuff_category_are_one_and_nested_ones_of_two_are_refused(files):
    (files.root / "results.json").write_text("[]")
    rng, masks = files.rng, {c: [np.zeros(SIZE, bool) for _ in range(4)] for c in STUFF}
    for c, found in masks.items():
        for mask in found:  # the sky in the left half, the sea in the right one
            y, x, height, width = rng.integers(0, 9, 4)
            mask[y : y + 2 * height, 18 * (c == 9) + x : 18 * (c == 9) + x + width + 1] = True
    entries = [
        {"image_id": 2, "category_id": c, "segmentation": coded(mask)}
        for c, found in masks.items()
        for mask in found
    ]
    rng.shuffle(entries)
    (files.root / "stuff.json").write_text(json.dumps(entries))
    found = files.fuse("stuff_area_limit_px=1", semantic="stuff.json")
    assert_equal(found[2], [(c, np.any(masks[c], axis=0)) for c in STUFF])
    inner, outer = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    outer[2:9, 3:9] = inner[5, 8] = True  # in the last column: its run begins after many others
    entries = [
        {"image_id": 2, "category_id": c, "segmentation": coded(mask)}
        for c, mask in ((9, inner), (3, outer))
    ]
    (files.root / "stuff.json").write_text(json.dumps(entries))
    with refused("stuff.json", "image 2", "overlap"):
        files.fuse(semantic="stuff.json")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("fusion.unknown_erasing.mode=score", ["unknown_erasing.mode=score", "probabilities"]),
        ("fusion=soe", ["fusion.relations.kind=soft_occlusion", "head", "area"]),
        ("fusion=oracle", ["gt_json", "oracle"]),
        ("images_json=null", ["images_json", "gt_json="]),
        ("stuff_area_limit_px=-1", ["stuff_area_limit_px", "-1"]),
    ],
)
def test_what_files_cannot_answer_is_refused(files, override, words):
    with refused(*words):
        files.fuse(override)


def test_from_the_command_line(files, capsys):
    given = ["instances=results.json", "semantic=semantic", "images_json=info.json", "out=a b"]
    assert run_main("fuse", *given, cwd=files.root) == 0
    assert "2 images" in capsys.readouterr().out
    assert sorted(p.name for p in (files.root / "a b" / "panoptic").iterdir()) == ["2.png", "5.png"]
