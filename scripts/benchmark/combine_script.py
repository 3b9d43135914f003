"""The work of panopticapi's ``combine_semantic_and_instance_predictions``.

It goes as that program does: on run lengths, image by image on full-size maps, with ids that are
colours near those of the categories, PNGs by Pillow, and the list of images read twice.
"""

import json
from collections import defaultdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

LIMIT_PX, THRESH, SPREAD = 4096, 0.5, 30


def combine(root: Path, out: Path, *, num_processes: int = 1) -> Path:
    """Write the PNGs into ``out`` and ``out.json`` from the files of ``root``.

    The images are divided among the processes at once, if there are several, and each gets the
    results of all images, as there.
    """
    stuff, things, listed, table = (
        json.loads((root / f"{name}.json").read_text())
        for name in ("semantic", "instances", "images", "categories")
    )
    categories = {c["id"]: c for c in table}
    instances, semantics = defaultdict(list), defaultdict(list)
    for entry in things:
        if entry["score"] >= THRESH:
            instances[entry["image_id"]].append(entry)
    for entries in instances.values():
        entries.sort(key=lambda e: -e["score"])
    for entry in stuff:
        if not categories[entry["category_id"]]["isthing"]:
            semantics[entry["image_id"]].append(entry)
    shared = instances, semantics, out, categories
    if num_processes == 1:
        annotations = _combine_images(listed["images"], *shared)
    else:
        with get_context("fork").Pool(num_processes) as pool:
            parts = np.array_split(np.array(listed["images"]), num_processes)
            tasks = [pool.apply_async(_combine_images, (part.tolist(), *shared)) for part in parts]
            annotations = [annotation for task in tasks for annotation in task.get()]
    document = json.loads((root / "images.json").read_text())
    document |= {"annotations": annotations, "categories": [*categories.values()]}
    with out.with_suffix(".json").open("w") as file:
        json.dump(document, file)
    return out


def _combine_images(
    images: list[Any],
    instances: dict[int, list[Any]],
    semantics: dict[int, list[Any]],
    out: Path,
    categories: dict[int, Any],
) -> list[Any]:
    colors, annotations = _Colors(categories), []
    for image in images:
        ids = np.zeros((image["height"], image["width"]), np.uint32)
        segments: list[dict[str, int]] = []
        _paint_instances(ids, instances[image["id"]], segments, colors)
        for entry in semantics[image["id"]]:
            left = np.logical_and(ids == 0, coco_mask.decode(entry["segmentation"]) == 1)
            if left.sum() >= LIMIT_PX:
                _paint(ids, left, entry, segments, colors)
        name = image["file_name"].replace(".jpg", ".png")
        Image.fromarray(_to_rgb(ids)).save(out / name)
        annotations.append({"image_id": image["id"], "file_name": name, "segments_info": segments})
    return annotations


class _Colors:
    """Ids as colours: of stuff its category's, of things one near it that is not taken."""

    def __init__(self, categories: dict[int, Any]) -> None:
        self.categories = categories
        self.taken = {tuple(c["color"]) for c in categories.values() if not c["isthing"]}
        self.taken.add((0, 0, 0))

    def choose(self, category: int) -> int:
        color = self.categories[category]["color"]
        if self.categories[category]["isthing"]:
            near = tuple(color)
            while near in self.taken:
                moved = np.array(color) + np.random.randint(-SPREAD, SPREAD + 1, size=3)  # noqa: NPY002
                near = tuple(np.clip(moved, 0, 255).tolist())
            self.taken.add(near)
            color = near
        return int(color[0] + 256 * color[1] + 65536 * color[2])


def _paint_instances(
    ids: np.ndarray, instances: list[Any], segments: list[dict[str, int]], colors: _Colors
) -> None:
    used = None
    for entry in instances:
        coded, shared = entry["segmentation"], 0
        area = coco_mask.area(coded)
        if area == 0:
            continue
        if used is not None:
            shared = coco_mask.area(coco_mask.merge([used, coded], intersect=True))
        if shared / area > THRESH:
            continue
        used = coded if used is None else coco_mask.merge([used, coded], intersect=False)
        mask = coco_mask.decode(coded) == 1
        _paint(ids, np.logical_and(ids == 0, mask) if shared else mask, entry, segments, colors)


def _paint(
    ids: np.ndarray,
    mask: np.ndarray,
    entry: Any,
    segments: list[dict[str, int]],
    colors: _Colors,
) -> None:
    segments.append(
        {"id": colors.choose(entry["category_id"]), "category_id": entry["category_id"]}
    )
    ids[mask] = segments[-1]["id"]


def _to_rgb(ids: np.ndarray) -> np.ndarray:
    rgb, rest = np.zeros((*ids.shape, 3), np.uint8), ids.copy()
    for channel in range(3):
        rgb[..., channel] = rest % 256
        rest //= 256
    return rgb
