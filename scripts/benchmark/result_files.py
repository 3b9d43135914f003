"""Result files of COCO's val images, made from their panoptic truth, as networks leave them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from refine.coco_format.png import decode_segment_png

_DETECTIONS, _STUFF = 100, 10  # per image, of a network

Part = tuple[np.ndarray, int, float]
"""A full-size mask, its category id and its score."""


def write_result_files(
    annotations: Path, root: Path, *, are_predicted: bool, copies: int = 1
) -> int:
    """Write ``instances``, ``semantic``, ``images`` and ``categories.json``; the images' number.

    Things have random scores. The files hold the truth, or with ``are_predicted`` what a network
    finds: 100 detections per image, most of them shifted copies of low scores, and semantics of ten
    categories. Each image is there ``copies`` times, by other names.
    """
    document = json.loads((annotations / "panoptic_val2017.json").read_text())
    categories = document["categories"]
    stuff_ids = [c["id"] for c in categories if not c["isthing"]]
    rng, results = np.random.default_rng(0), dict[str, list[Any]](instances=[], semantic=[])
    for annotation in document["annotations"]:
        things, stuff = _read_truth(annotation, annotations / "panoptic_val2017", categories, rng)
        if are_predicted:
            things += [*_detect(things, rng)]
            stuff = _spread(stuff, things[0][0].shape, stuff_ids, rng)
        for name, parts in (("instances", things), ("semantic", stuff)):
            results[name] += [_code(part, annotation["image_id"]) for part in parts]
    images = [
        i | {"id": _rename(i["id"], k), "file_name": f"{k}_{i['file_name']}"}
        for k in range(copies)
        for i in document["images"]
    ]
    for name, entries in results.items():
        results[name] = [
            e | {"image_id": _rename(e["image_id"], k)} for k in range(copies) for e in entries
        ]
    listed = {"images": images, "categories": categories}
    for name, content in (results | {"images": listed, "categories": categories}).items():
        (root / f"{name}.json").write_text(json.dumps(content))
    return len(images)


def _rename(image_id: int, copy: int) -> int:
    return image_id + copy * 10**7


def _read_truth(
    annotation: Any, pngs: Path, categories: list[Any], rng: np.random.Generator
) -> tuple[list[Part], list[Part]]:
    """Things and stuff of an image."""
    is_thing = {c["id"]: bool(c["isthing"]) for c in categories}
    name = annotation["file_name"]
    ids = decode_segment_png((pngs / name).read_bytes(), source=name)
    parts: tuple[list[Part], list[Part]] = ([], [])
    for s in annotation["segments_info"]:
        category = s["category_id"]
        part = (ids == s["id"], category, float(rng.uniform(0.3, 1)))
        parts[0 if is_thing[category] else 1].append(part)
    return parts


def _detect(things: list[Part], rng: np.random.Generator) -> Iterator[Part]:
    """Copies of the things, shifted by up to a fifth of their boxes; one in six is confident."""
    for k in rng.integers(0, len(things), _DETECTIONS - len(things)):
        mask, category, _ = things[k]
        rows, columns = np.nonzero(mask)
        box = np.array([np.ptp(rows), np.ptp(columns)]) + 1
        dy, dx = np.round(rng.uniform(-0.2, 0.2, 2) * box).astype(int)
        inside = [(rows + dy).clip(0, len(mask) - 1), (columns + dx).clip(0, mask.shape[1] - 1)]
        shifted = np.zeros_like(mask)
        shifted[*inside] = True
        yield shifted, category, float(rng.uniform(0.05, 0.59))


def _spread(
    stuff: list[Part], size: tuple[int, ...], ids: list[int], rng: np.random.Generator
) -> list[Part]:
    """The stuff, and blobs of other categories over it and over things."""
    labels = sum((mask * category for mask, category, _ in stuff), np.zeros(size, int))
    y, x = np.indices(size)
    present = {category for _, category, _ in stuff}
    for category in rng.permutation([i for i in ids if i not in present])[: _STUFF - len(present)]:
        (top, left), (height, width) = rng.uniform(0, size), rng.uniform(0.1, 0.3, 2) * size
        angle = np.arctan2(y - top, x - left)
        edge = 1 + 0.1 * np.sin(5 * angle) + 0.05 * np.sin(23 * angle)
        inside = np.hypot((y - top) / height, (x - left) / width) < edge
        labels[inside] = category
    return [(labels == c, int(c), 1.0) for c in np.unique(labels[labels > 0])]


def _code(part: Part, image_id: int) -> dict[str, Any]:
    mask, category, score = part
    packed = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    coded = {"size": [*mask.shape], "counts": packed["counts"].decode()}
    entry = {"image_id": image_id, "category_id": category, "segmentation": coded}
    return entry | {"score": score}
