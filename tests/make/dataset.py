"""A COCO-panoptic dataset of three images in which every pixel is known, and painted scenes.

Image 1 (8 x 12): grass, a car that a cat overlaps, and a crowd of cars.
Image 2 (10 x 6): sky with a void stripe; no things.
Image 3 (5 x 5): all one car.

Scenes are rectangles that overlap, painted in a known order, with their annotations.
"""

import json
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from refine.coco_format.instances import InstanceAnnotation
from refine.coco_format.layout import INSTANCES_ZIP, PANOPTIC_ZIP
from refine.coco_format.segment_runs import find_runs
from refine.coco_format.storage import FolderStorage
from refine.data.pairs.occlusion_pairs import find_pairs
from refine.data.rows import ImageRow
from refine.ops.outlines import decode_mask, encode_mask
from refine.types import CodedMask, MaskCrop, Segment

CATEGORIES = [
    {"id": 3, "name": "car", "isthing": 1, "color": [0, 0, 142]},
    {"id": 17, "name": "cat", "isthing": 1, "color": [255, 179, 240]},
    {"id": 92, "name": "grass", "isthing": 0, "color": [0, 80, 0]},
    {"id": 187, "name": "sky", "isthing": 0, "color": [70, 130, 180]},
]
CAR, CAT, GRASS, SKY = range(4)
"""Contiguous ids."""

GRASS_ID, CAR_ID, CAT_ID, CROWD_ID, SKY_ID, BIG_CAR_ID = 70_000, 300, 301, 999, 5, 16_777_215


def segment_maps():
    """Image id -> ``[H, W]`` int map of 24-bit ids."""
    first, second = np.full((8, 12), GRASS_ID), np.full((10, 6), SKY_ID)
    first[2:6, 1:5] = CAR_ID
    first[4:7, 3:8] = CAT_ID
    first[0:2, 9:12] = CROWD_ID
    second[3:5] = 0
    return {1: first, 2: second, 3: np.full((5, 5), BIG_CAR_ID)}


SEGMENTS = {
    1: [(CAT_ID, 17, 0), (GRASS_ID, 92, 0), (CAR_ID, 3, 0), (CROWD_ID, 3, 1)],
    2: [(SKY_ID, 187, 0)],
    3: [(BIG_CAR_ID, 3, 0)],
}
"""Image id -> (segment id, category id, iscrowd) in the JSON's order."""


def panoptic_json():
    """The content of ``panoptic_{split}.json``."""
    maps = segment_maps()
    return {
        "images": [
            {"id": i, "file_name": f"{i:04d}.jpg", "height": m.shape[0], "width": m.shape[1]}
            for i, m in maps.items()
        ],
        "annotations": [
            {
                "image_id": i,
                "file_name": f"{i:04d}.png",
                "segments_info": [
                    {"id": s, "category_id": c, "iscrowd": crowd, "area": int((maps[i] == s).sum())}
                    for s, c, crowd in SEGMENTS[i]
                ],
            }
            for i in maps
        ],
        "categories": [dict(c) for c in CATEGORIES],
    }


def instances_json():
    """The content of ``instances_{split}.json``: the car of image 1 goes on below the cat."""
    crowd = np.zeros((8, 12), bool)
    crowd[0:2, 9:12] = True
    entries = [
        (1, 3, 0, [1, 2, 4, 4], [_outline(1, 2, 5, 6)]),
        (1, 17, 0, [3, 4, 5, 3], [_outline(3, 4, 8, 7)]),
        (1, 3, 1, [9, 0, 3, 2], {"size": [8, 12], "counts": run_lengths(crowd)}),
        (3, 3, 0, [0, 0, 5, 5], [_outline(0, 0, 5, 5)]),
    ]
    annotations = [
        {"id": k, "image_id": i, "category_id": c, "iscrowd": crowd, "bbox": b, "segmentation": s}
        for k, (i, c, crowd, b, s) in enumerate(entries, start=1)
    ]
    categories = [dict(c) for c in CATEGORIES[:2]]
    return {"images": [], "annotations": annotations, "categories": categories}


def _outline(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


def run_lengths(mask):
    """COCO's uncompressed run lengths of a mask: down the columns, zeros first."""
    flat = mask.ravel(order="F").astype(int)
    bounds = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    return ([0] if flat[0] else []) + np.diff(bounds).tolist()


def write_png(path, ids):
    """A segment map as the format has it."""
    channels = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1)
    Image.fromarray(channels.astype(np.uint8)).save(path)


def write_tree(
    root: Path,
    split: str = "train2017",
    *,
    panoptic: dict | None = None,
    instances: dict | None = None,
    size_factor: int = 1,
) -> Path:
    """Write images, PNGs and JSON below ``root`` in COCO's layout.

    ``panoptic`` and ``instances`` are the contents of the two JSONs, by default
    :func:`panoptic_json` and no file; images and maps are ``size_factor`` times as large.
    """
    images, pngs = root / split, root / "annotations" / f"panoptic_{split}"
    images.mkdir(parents=True)
    pngs.mkdir(parents=True)
    content = panoptic or panoptic_json()
    if panoptic is None:
        for image in content["images"]:
            image["height"] *= size_factor
            image["width"] *= size_factor
    for i, ids in segment_maps().items():
        large = ids.repeat(size_factor, 0).repeat(size_factor, 1)
        write_png(pngs / f"{i:04d}.png", large)
        pixels = np.random.default_rng(i).integers(0, 256, (*large.shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{i:04d}.jpg", quality=95)
    annotations = root / "annotations"
    (annotations / f"panoptic_{split}.json").write_text(json.dumps(content))
    if instances is not None:
        (annotations / f"instances_{split}.json").write_text(json.dumps(instances))
    return root


def zip_folder(folder, target, prefix, *, method=zipfile.ZIP_STORED):
    """Move a folder's files into a zip."""
    with zipfile.ZipFile(target, "w", method) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, prefix + path.name)
    shutil.rmtree(folder)


def zip_officially(root, *, split, method=zipfile.ZIP_STORED, folder=""):
    """Turn a tree into what is downloaded: images, both annotation archives, all zipped."""
    inner, pngs = root / f"panoptic_{split}.zip", f"annotations/panoptic_{split}"
    zip_folder(root / pngs, inner, f"panoptic_{split}/", method=zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(root / folder / PANOPTIC_ZIP, "w", method) as archive:
        archive.writestr(f"{pngs}.json", json.dumps(panoptic_json()))
        archive.write(inner, f"{pngs}.zip")
    with zipfile.ZipFile(root / folder / INSTANCES_ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"annotations/instances_{split}.json", json.dumps(instances_json()))
    inner.unlink()
    for path in (root / "annotations").glob("*.json"):
        path.unlink()
    zip_folder(root / split, root / f"{split}.zip", f"{split}/")


@dataclass
class Thing:
    """An instance as a full mask; ``segment`` is its id in the map, if it has one."""

    mask: np.ndarray
    category: int = CAR
    is_crowd: bool = False
    segment: int | None = None
    id: int = 0


def rectangle(top, left, bottom, right, size=(16, 20)):
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def on_image(crop, size):
    """The ``[H, W]`` bool mask of a crop, coded or not; of None an empty one."""
    full = np.zeros(size, bool)
    if crop is not None:
        crop = decode_mask(crop) if isinstance(crop, CodedMask) else crop
        full[crop.slices] = crop.mask
    return full


def paint(things, *, background=GRASS):
    """Segment map and segments of things given from bottom to top; numbers them.

    A thing without a pixel left has no segment. Without ``background`` the rest is void.
    """
    segment_map = np.full(things[0].mask.shape, 0 if background is None else 90, np.int32)
    for k, thing in enumerate(things):
        thing.id = thing.id or 1000 + k
        thing.segment = 10 + k
        segment_map[thing.mask] = thing.segment
    segments = [] if background is None else [(90, background, False)]
    segments += [(t.segment, t.category, t.is_crowd) for t in things]
    return segment_map, describe(segments, segment_map)


def describe(entries, segment_map, *, num_things=GRASS):
    """Segments out of ``(id, category, is_crowd)``; those without pixels are left out."""
    return [
        Segment(
            id=number,
            category=category,
            is_thing=category < num_things,
            area=int((segment_map == number).sum()),
            is_crowd=is_crowd,
        )
        for number, category, is_crowd in entries
        if (segment_map == number).any()
    ]


def annotate(things):
    """The instance annotations of things, with run lengths of the whole image."""
    return [
        InstanceAnnotation(
            id=thing.id,
            category=thing.category,
            is_crowd=thing.is_crowd,
            box=(0, 0, 1, 1),
            outline=encode_mask(MaskCrop(0, 0, thing.mask)),
        )
        for thing in things
    ]


def order_pairs(annotations, segment_map, segments, rho=0.2):
    """The ordered pairs of an image with these annotations, map and segments."""
    row = ImageRow(
        image_id=1, image_name="1.jpg", png_name="1.png",
        size=segment_map.shape, segments=tuple(segments), instances=tuple(annotations),
    )  # fmt: skip
    return find_pairs(row, lambda: find_runs(segment_map, segments, source="map.png"), rho)


class DeadlyStorage(FolderStorage):
    """Ends the process that reads from it."""

    def read(self, _name):
        os._exit(1)
