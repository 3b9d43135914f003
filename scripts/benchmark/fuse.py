"""Stage ``fuse``: ``refine.fuse`` against the official combination of result files, files to files.

The truth of the 42 COCO val images of ``REFINE_COCO_ROOT``, its things as instance results with
random scores and its stuff as semantic results, both in run lengths. The other program follows the
rules of panopticapi's combine script as that does: on run lengths, image by image, PNGs by Pillow.
"""

import io
import json
import os
import tempfile
from collections import defaultdict
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from benchmark.case import Case
from refine.coco_format.png import decode_segment_png
from refine.config import compose
from refine.workflows.fuse_results import fuse_results

GOAL = 5.0
LIMIT_PX, THRESH = 4096, 0.5


def build() -> list[Case]:
    """The whole command; nothing without real images."""
    if "REFINE_COCO_ROOT" not in os.environ:
        print("fuse: REFINE_COCO_ROOT is not set")
        return []
    folder = tempfile.TemporaryDirectory()
    root, annotations = Path(folder.name), Path(os.environ["REFINE_COCO_ROOT"]) / "annotations"
    count = _split(annotations, root)
    truth = annotations / "panoptic_val2017.json"
    given = [f"{key}={root}/{key}.json" for key in ("instances", "semantic")]
    overrides = [*given, f"images_json={truth}", f"out={root}/ours"]
    ours = partial(_fuse, compose("fuse", overrides))
    peer = partial(_combine, root, truth)

    def check() -> None:
        assert folder.name, "kept while the case is"
        ours(), peer()
        for path in (root / "peer").glob("*.png"):
            a, b = (
                decode_segment_png(p.read_bytes(), source=str(p))
                for p in (path, root / "ours" / "panoptic" / path.name)
            )
            pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
            assert pairs.shape[1] == len(np.unique(a)) == len(np.unique(b)), path.name

    name = f"{count} COCO val images"
    return [Case(name=name, ours=ours, peer=peer, check=check, items=count, goal=GOAL, rounds=7)]


def _fuse(settings: Any) -> None:
    with redirect_stdout(io.StringIO()):
        fuse_results(settings)


def _split(annotations: Path, root: Path) -> int:
    """Write ``instances.json`` and ``semantic.json``; the number of images."""
    document = json.loads((annotations / "panoptic_val2017.json").read_text())
    is_thing = {c["id"]: bool(c["isthing"]) for c in document["categories"]}
    rng, results = np.random.default_rng(0), defaultdict(list)
    for annotation in document["annotations"]:
        path = annotations / "panoptic_val2017" / annotation["file_name"]
        ids = decode_segment_png(path.read_bytes(), source=path.name)
        for s in annotation["segments_info"]:
            packed = coco_mask.encode(np.asfortranarray(ids == s["id"], np.uint8))
            coded = {"size": [*ids.shape], "counts": packed["counts"].decode()}
            entry = {"image_id": annotation["image_id"], "category_id": s["category_id"]}
            entry |= {"segmentation": coded, "score": float(rng.uniform(0.3, 1))}
            results["instances" if is_thing[s["category_id"]] else "semantic"].append(entry)
    for name, entries in results.items():
        (root / f"{name}.json").write_text(json.dumps(entries))
    return len(document["annotations"])


def _combine(root: Path, truth: Path) -> None:
    """Panopticapi's rules."""
    images = json.loads(truth.read_text())["images"]
    by_image: dict[str, dict[int, list[Any]]] = {}
    for name in ("instances", "semantic"):
        by_image[name] = defaultdict(list)
        for entry in json.loads((root / f"{name}.json").read_text()):
            by_image[name][entry["image_id"]].append(entry)
    (root / "peer").mkdir(exist_ok=True)
    annotations = []
    for image in images:
        ids = np.zeros((image["height"], image["width"]), np.uint32)
        segments: list[dict[str, int]] = []
        instances = [e for e in by_image["instances"][image["id"]] if e["score"] >= THRESH]
        _paint_instances(ids, instances, segments)
        for entry in by_image["semantic"][image["id"]]:
            left = np.logical_and(ids == 0, coco_mask.decode(entry["segmentation"]) == 1)
            if left.sum() >= LIMIT_PX:
                _paint(ids, left, entry, segments)
        name = f"{Path(image['file_name']).stem}.png"
        rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)
        Image.fromarray(rgb).save(root / "peer" / name)
        annotations.append({"image_id": image["id"], "file_name": name, "segments_info": segments})
    (root / "peer.json").write_text(json.dumps({"annotations": annotations}))


def _paint_instances(ids: np.ndarray, instances: list[Any], segments: list[dict[str, int]]) -> None:
    used = None
    for entry in sorted(instances, key=lambda e: -e["score"]):
        coded, shared = entry["segmentation"], 0
        area = coco_mask.area(coded)
        if used is not None:
            shared = coco_mask.area(coco_mask.merge([used, coded], intersect=True))
        if area == 0 or shared / area > THRESH:
            continue
        used = coded if used is None else coco_mask.merge([used, coded], intersect=False)
        mask = coco_mask.decode(coded) == 1
        _paint(ids, np.logical_and(ids == 0, mask) if shared else mask, entry, segments)


def _paint(ids: np.ndarray, mask: np.ndarray, entry: Any, segments: list[dict[str, int]]) -> None:
    segments.append({"id": len(segments) + 1, "category_id": entry["category_id"]})
    ids[mask] = len(segments)
