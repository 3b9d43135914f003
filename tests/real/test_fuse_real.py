"""The panoptic truth of photographs, split into instances and semantics, and fused again."""

import json
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from oracles.combine import combine
from refine.coco_format.png import decode_segment_png
from refine.config import compose
from refine.workflows.fuse_results import fuse_results

pytestmark = pytest.mark.real
STUFF_LIMIT = 500


def _split(coco_root):
    """By image: things, stuff as ``(mask, category)`` in the order of the JSON."""
    folder = coco_root / "annotations"
    document = json.loads((folder / "panoptic_val2017.json").read_text())
    is_thing = {c["id"]: bool(c["isthing"]) for c in document["categories"]}
    parts = {}
    for annotation in document["annotations"]:
        path = folder / "panoptic_val2017" / annotation["file_name"]
        ids = decode_segment_png(path.read_bytes(), source=path.name)
        things, stuff = parts.setdefault(annotation["image_id"], ([], []))
        for s in annotation["segments_info"]:
            if not s["iscrowd"]:
                found = things if is_thing[s["category_id"]] else stuff
                found.append((ids == s["id"], s["category_id"]))
    return document, parts


def _spill(things):
    """Each mask with two fifths of its area more, all inside the next instance: it lies below."""
    spilt = []
    for (mask, category), (upper, _) in zip(things, [*things[1:], things[-1]], strict=True):
        more = np.flatnonzero(upper & ~mask)[: int(mask.sum() * 0.4)]
        grown = mask.copy()
        grown.ravel()[more] = True
        spilt.append((grown, category))
    return spilt


def _write(folder, instances, parts, names):
    (folder / "semantic").mkdir(parents=True)
    results = []
    for image_id, found in instances.items():
        for mask, category, score in found:
            packed = coco_mask.encode(np.asfortranarray(mask, np.uint8))
            coded = {"size": [*mask.shape], "counts": packed["counts"].decode()}
            results.append({"image_id": image_id, "category_id": category, "score": score})
            results[-1]["segmentation"] = coded
        labels = np.zeros(found[0][0].shape if found else parts[image_id][1][0][0].shape, np.uint8)
        for mask, category in parts[image_id][1]:
            labels[mask] = category
        Image.fromarray(labels).save(folder / "semantic" / f"{names[image_id]}.png")
    (folder / "results.json").write_text(json.dumps(results))


def test_split_truth_is_whole_again_with_the_true_order_and_official_without(coco_root, tmp_path):
    document, parts = _split(coco_root)
    names = {i["id"]: i["file_name"].removesuffix(".jpg") for i in document["images"]}
    rng = np.random.default_rng(3)
    instances = {
        image_id: [(m, c, float(rng.uniform(0.3, 1))) for m, c in _spill(things)]
        for image_id, (things, _) in parts.items()
    }
    _write(tmp_path, instances, parts, names)
    given = [f"instances={tmp_path}/results.json", f"semantic={tmp_path}/semantic"]
    given += [f"gt_json={coco_root}/annotations/panoptic_val2017.json", f"out={tmp_path}/out"]
    whole = ["fusion.merge.score_thresh=0", "fusion.relations.overlap_thresh=0"]
    truth = fuse_results(
        compose("fuse", [*given, "fusion=oracle", *whole, "stuff_area_limit_px=1"])
    )
    assert set(truth.values()) == {1.0, 42}

    quality = fuse_results(compose("fuse", [*given, f"stuff_area_limit_px={STUFF_LIMIT}"]))
    assert quality["pq"] < 0.9
    written = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    compared = defaultdict(int)
    for annotation in written["annotations"]:
        image_id = annotation["image_id"]
        path = tmp_path / "out" / "panoptic" / annotation["file_name"]
        ids = decode_segment_png(path.read_bytes(), source=path.name)
        stuff = sorted(parts[image_id][1], key=lambda part: part[1])
        expected = combine(instances[image_id], stuff, ids.shape, stuff_limit=STUFF_LIMIT)
        assert [s["category_id"] for s in annotation["segments_info"]] == [c for c, _ in expected]
        for segment, (_, mask) in zip(annotation["segments_info"], expected, strict=True):
            np.testing.assert_array_equal(ids == segment["id"], mask)
            compared[image_id] += 1
    assert len(compared) == 42
