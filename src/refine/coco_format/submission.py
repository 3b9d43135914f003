"""Panoptic results as COCO's evaluation server takes them: a zip with a JSON and its PNGs.

``panoptic_{split}_{algorithm}_results.zip`` holds ``panoptic_{split}_{algorithm}_results.json`` and
a folder of the same name with a PNG for every image of the split, called as the image is.
"""

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from refine.atomic import write_atomically
from refine.categories import CategoryTable
from refine.coco_format.annotations import ImageTable
from refine.coco_format.png import decode_segment_png
from refine.errors import RefineError
from refine.ops.arrays import find_label_runs

_SPLIT = re.compile(r"(?:image_info|panoptic|instances|captions)_(\w[\w.-]*)")


def name_submission(algorithm: str, images_json: Path) -> str:
    """The official name, without an ending, for the split that the JSON's own name states.

    Raises:
        RefineError: It states none, or the algorithm's name cannot be part of one.
    """
    split = _SPLIT.fullmatch(images_json.stem)
    if split is None:
        raise RefineError(
            f"ids_from={images_json}: the split is not in its name; call it image_info_SPLIT.json"
        )
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", algorithm) is None:
        raise RefineError(
            f"submission={algorithm}: letters, digits, '.' and '-' alone make the name of a file"
        )
    return f"panoptic_{split[1]}_{algorithm}_results"


def write_submission(
    path: Path, entries: Mapping[int, Mapping[str, Any]], images: ImageTable, pngs: Path
) -> None:
    """Zip the results of all images of a split, and check the zip.

    Args:
        path: The zip, with its official name.
        entries: By the id of the image: ``png``, the name of its file in ``pngs``, and
            ``segments_info``.
        images: The images of the split.
        pngs: Folder of the PNGs.

    Raises:
        RefineError: An image has no result.
    """
    names = {i: f"{PurePosixPath(n).stem}.png" for i, n in _rows(images)}
    missing = [name for image_id, name in names.items() if image_id not in entries]
    if missing:
        raise RefineError(
            f"{images.source}: {len(missing)} of {len(names)} images have no result, the first one "
            f"for {missing[0]}; a submission needs all of them"
        )
    annotations = [
        {
            "image_id": image_id,
            "file_name": name,
            "segments_info": [
                {key: info[key] for key in ("id", "category_id")}
                for info in entries[image_id]["segments_info"]
            ],
        }
        for image_id, name in names.items()
    ]
    with write_atomically(path) as part, zipfile.ZipFile(part, "w") as archive:
        document = json.dumps({"annotations": annotations})
        archive.writestr(f"{path.stem}.json", document, zipfile.ZIP_DEFLATED)
        for image_id, name in names.items():
            archive.write(pngs / entries[image_id]["png"], f"{path.stem}/{name}")


def check_submission(path: Path, images: ImageTable, categories: CategoryTable) -> None:
    """Refuse a zip that the server would not take.

    Raises:
        RefineError: A file too many or too few, an image without a result, a PNG of another size,
            or ids and categories that do not fit.
    """
    with zipfile.ZipFile(path) as archive:
        found, json_name = set(archive.namelist()), f"{path.stem}.json"
        if json_name not in found:
            raise RefineError(f"{path}: no {json_name} in it; the zip and the JSON share a name")
        annotations = json.loads(archive.read(json_name))["annotations"]
        of_image = {a["image_id"]: a for a in annotations}
        ids = set(images.ids.tolist())
        if len(of_image) < len(annotations) or of_image.keys() != ids:
            raise RefineError(f"{path}: {json_name} must have each of the {len(ids)} images once")
        expected = {f"{path.stem}/{a['file_name']}" for a in annotations}
        if found != {json_name, *expected}:
            odd = min(found ^ {json_name, *expected})
            raise RefineError(f"{path}: {odd} is in one of zip and JSON alone; make the zip again")
        for (image_id, name), size in zip(_rows(images), images.sizes.tolist(), strict=True):
            annotation = of_image[image_id]
            source = f"{path}: {annotation['file_name']}"
            if annotation["file_name"] != f"{PurePosixPath(name).stem}.png":
                raise RefineError(f"{source}: has to be called as {name}, with .png")
            png = archive.read(f"{path.stem}/{annotation['file_name']}")
            segment_map = decode_segment_png(png, source=source, size=tuple(size))
            _check_segments(annotation["segments_info"], segment_map, categories, source=source)


def _check_segments(
    infos: Sequence[Mapping[str, Any]],
    segment_map: np.ndarray,
    categories: CategoryTable,
    *,
    source: str,
) -> None:
    values, _ = find_label_runs(segment_map)
    painted = set(np.unique(values).tolist()) - {0}
    listed = [info["id"] for info in infos]
    if len(set(listed)) < len(listed) or set(listed) != painted:
        raise RefineError(f"{source}: the ids of the PNG are not those of segments_info")
    for info in infos:
        if categories.to_contiguous(info["category_id"]) is None:
            raise RefineError(f"{source}: no category has the id {info['category_id']}")


def _rows(images: ImageTable) -> list[tuple[int, str]]:
    return list(zip(images.ids.tolist(), images.names.tolist(), strict=True))
