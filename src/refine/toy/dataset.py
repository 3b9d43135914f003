"""The toy dataset: generated scenes, written in COCO's own layout.

    ROOT/{train,val}2017/%012d.jpg
    ROOT/annotations/panoptic_{train,val}2017.json      visible parts; PNGs in the folder beside it
    ROOT/annotations/instances_{train,val}2017.json     full outlines of the things, overlapping
    ROOT/toy.json                                       what it was made with

It is read by the same reader as COCO. One key is not COCO's: each instance has an integer
``depth``, larger is nearer. :mod:`refine.toy.scene` says what the scenes are for.
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Container, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refine.atomic import draft_folder
from refine.categories import CategoryTable
from refine.coco_format.png import encode_segment_png
from refine.errors import RefineError
from refine.ops.outlines import tight_crop
from refine.options import ToyOptions
from refine.toy.objects import SPLITS, TOY_CATEGORIES, VOID, ToyObject
from refine.toy.scene import generate_scene
from refine.toy.shapes import clip_outline
from refine.toy.statistics import count_scene

_RECORD = "toy.json"
_JPEG_QUALITY = 92
_FIRST_IMAGE_ID = {"train": 1, "val": 10_000_001}
_MAX_OBJECTS = 100  # of a scene; spaces the ids of instances
_INFO = {
    "description": "refine toy scenes",
    "url": "",
    "contributor": "refine",
}
_LICENSE = {
    "id": 1,
    "name": "CC0 1.0 Universal",
    "url": "https://creativecommons.org/publicdomain/zero/1.0/",
}
_TABLE = CategoryTable(TOY_CATEGORIES)

_log = logging.getLogger(__name__)


def ensure_toy_dataset(root: Path, options: ToyOptions) -> None:
    """Write the toy dataset unless ``root`` already holds the one of these options.

    Raises:
        RefineError: ``root`` holds something else, or cannot be written.
    """
    if not _is_vacant(root):
        _check_record(root, options)
        return
    _log.info("writing the toy dataset to %s", root)
    start = time.perf_counter()
    counts = write_toy_dataset(root, options)
    _log.info("wrote %d scenes in %.1f s", counts["scenes"], time.perf_counter() - start)


def write_toy_dataset(root: Path, options: ToyOptions, *, num_processes: int = 1) -> Counter[str]:
    """Generate the scenes of both splits and write them; see the module for the layout.

    The files are a function of ``options`` alone. They are written beside ``root`` and appear
    there at once, whole; an interrupted run leaves ``root`` as it was. What comes back are counts
    over all scenes (:mod:`refine.toy.statistics`).

    Raises:
        RefineError: ``root`` is neither missing nor empty, or cannot be written.
        ValueError: ``num_processes`` below 1.
    """
    if num_processes < 1:
        raise ValueError(f"num_processes={num_processes}: expected at least 1")
    if not _is_vacant(root):
        raise RefineError(f"{root}: not empty; name another folder or remove this one")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with draft_folder(root) as draft:  # its holder is private to its user
            counts = Counter[str]()
            for split in SPLITS:
                counts += _write_split(draft, options, split, num_processes=num_processes)
            (draft / _RECORD).write_text(json.dumps(_record_of(options)), encoding="utf-8")
            _publish(draft, root, options)
    except OSError as error:
        raise RefineError(
            f"{root}: cannot write the toy dataset ({error}); set data.root to a writable folder"
        ) from error
    return counts


def _publish(draft: Path, root: Path, options: ToyOptions) -> None:
    try:
        draft.rename(root)  # over an empty folder, too
    except OSError:
        # another process of the same run may have been quicker: its files are the same
        if _is_vacant(root):
            raise
        _check_record(root, options)


def _is_vacant(root: Path) -> bool:
    return not root.exists() or (root.is_dir() and not any(root.iterdir()))


def _record_of(options: ToyOptions) -> dict[str, Any]:
    known = asdict(options)
    version = known.pop("version")  # raise it when the same options give other files
    # options younger than the scenes that they do not change
    for name, unchanged in (("crowded", False), ("masks", "full"), ("hues", "default")):
        if known[name] == unchanged:
            del known[name]
    return {"generator_version": version, "options": known}


def _check_record(root: Path, options: ToyOptions) -> None:
    fix = "set data.root to another folder or remove this one"
    try:
        record = json.loads((root / _RECORD).read_bytes())
    except (OSError, ValueError):
        raise RefineError(f"{root}: holds something other than a toy dataset; {fix}") from None
    if record != _record_of(options):
        raise RefineError(
            f"{root}: this toy dataset was made with {json.dumps(record)}, but "
            f"{json.dumps(_record_of(options))} is asked for; {fix}"
        )


def _write_split(
    root: Path, options: ToyOptions, split: str, *, num_processes: int
) -> Counter[str]:
    for folder in (f"{split}2017", f"annotations/panoptic_{split}2017"):
        (root / folder).mkdir(parents=True)
    indices = range(options.num_train if split == "train" else options.num_val)
    write = partial(_write_scene, root, options, split)
    if num_processes == 1:
        scenes = [write(index) for index in indices]
    else:
        # spawn: a fork of a process that holds threads (torch's) may hang
        with ProcessPoolExecutor(num_processes, mp_context=get_context("spawn")) as pool:
            scenes = list(pool.map(write, indices, chunksize=16))
    images, panoptic, instances, counts = zip(*scenes, strict=True)
    categories: list[dict[str, Any]] = [
        {"supercategory": "object" if entry["isthing"] else "ground", **entry}
        for entry in _TABLE.to_json()
    ]
    keys = ("supercategory", "id", "name")
    things = [{key: c[key] for key in keys} for c in categories if c["isthing"]]
    for name, annotations, known in (
        ("panoptic", panoptic, categories),
        ("instances", [entry for entries in instances for entry in entries], things),
    ):
        info = {**_INFO, "version": str(options.version)}
        content = {"info": info, "licenses": [_LICENSE], "images": images}
        content |= {"annotations": annotations, "categories": known}
        path = root / "annotations" / f"{name}_{split}2017.json"
        path.write_text(json.dumps(content), encoding="utf-8")
    return sum(counts, Counter[str]())


_Entry = dict[str, Any]


def _write_scene(
    root: Path, options: ToyOptions, split: str, index: int
) -> tuple[_Entry, _Entry, list[_Entry], Counter[str]]:
    """What one scene adds: an image, a panoptic annotation, instance annotations, and counts."""
    scene = generate_scene(options, split, index)
    image_id = _FIRST_IMAGE_ID[split] + index
    stem = f"{image_id:012d}"
    # its own stream of numbers: how segments are coloured must not change the scenes
    rng = np.random.default_rng([options.seed, SPLITS.index(split), index, 1])
    # shuffled, or the place in the list would tell the depth
    things = [scene.objects[k] for k in rng.permutation(len(scene.objects))]
    segment_map, segments = _segments_of(scene.stuff, things, rng)
    jpeg = root / f"{split}2017" / f"{stem}.jpg"
    Image.fromarray(scene.image).save(jpeg, quality=_JPEG_QUALITY, subsampling=0)
    png = root / "annotations" / f"panoptic_{split}2017" / f"{stem}.png"
    png.write_bytes(encode_segment_png(segment_map))
    size = {"width": options.width_px, "height": options.height_px}
    masks = [thing.visible if options.masks == "visible" else thing.mask for thing in things]
    instances = [
        {
            "id": image_id * _MAX_OBJECTS + k,
            "image_id": image_id,
            **_describe(thing.category, masks[k], is_crowd=thing.is_crowd),
            "segmentation": _outline(thing, masks[k]),
            "depth": thing.depth,
        }
        for k, thing in enumerate(things)
    ]
    return (
        {"id": image_id, **size, "file_name": jpeg.name, "license": _LICENSE["id"]},
        {"image_id": image_id, "file_name": png.name, "segments_info": segments},
        instances,
        count_scene(scene),
    )


def _segments_of(
    stuff: np.ndarray, things: Sequence[ToyObject], rng: np.random.Generator
) -> tuple[np.ndarray, list[_Entry]]:
    """The ``[H, W]`` int32 map of the visible parts, and its ``segments_info``."""
    parts = [(int(c), stuff == c, False) for c in np.unique(stuff[stuff != VOID])]
    parts += [(thing.category, thing.visible, thing.is_crowd) for thing in things]
    segment_map = np.zeros(stuff.shape, np.int32)
    segments: dict[int, _Entry] = {}
    for category, visible, is_crowd in parts:
        segment_id = _draw_segment_id(category, segments, rng)
        segment_map[visible] = segment_id
        segments[segment_id] = {
            "id": segment_id,
            **_describe(category, visible, is_crowd=is_crowd),
        }
    return segment_map, list(segments.values())


def _draw_segment_id(category: int, used: Container[int], rng: np.random.Generator) -> int:
    """A free id: the category's colour, for things moved a little, read as R + 256 G + 256² B."""
    color = np.array(TOY_CATEGORIES[category].color)
    spread = 35 if TOY_CATEGORIES[category].is_thing else 0
    while True:
        red, green, blue = np.clip(color + rng.integers(-spread, spread + 1, 3), 0, 255).tolist()
        segment_id: int = red + 256 * green + 256**2 * blue
        if segment_id and segment_id not in used:
            return segment_id


def _describe(category: int, mask: np.ndarray, *, is_crowd: bool) -> _Entry:
    """What segments and instances have in common; the mask is not empty."""
    crop = tight_crop(mask)
    if crop is None:
        raise ValueError("an empty mask has no box")
    return {
        "category_id": _TABLE[category].dataset_id,
        "iscrowd": int(is_crowd),
        "area": int(mask.sum()),
        "bbox": [crop.x, crop.y, *crop.mask.shape[::-1]],
    }


def _outline(thing: ToyObject, mask: np.ndarray) -> dict[str, Any] | list[list[float]]:
    """Polygons, or COCO's run lengths of a crowd and of visible parts.

    Run lengths go down the columns and begin with zeros.
    """
    height, width = mask.shape
    if mask is thing.mask and not thing.is_crowd:
        outlines = [clip_outline(outline, (height, width)) for outline in thing.outlines]
        return [[round(float(v), 2) for v in outline.ravel()] for outline in outlines]
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=False))
    runs = np.diff(changes, prepend=0, append=flat.size)
    return {"counts": runs.tolist(), "size": [height, width]}
