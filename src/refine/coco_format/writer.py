"""Panoptic maps as files: the PNGs and the JSON that COCO's evaluators and servers take."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np

from refine.atomic import sync_files, write_bytes, write_text
from refine.categories import CategoryTable
from refine.coco_format.json_entries import parse_json_object
from refine.coco_format.png import encode_column_runs
from refine.errors import RefineError
from refine.ops.arrays import find_label_runs, find_value_boxes
from refine.types import GroundTruth, PanopticPrediction, PanopticRuns


class PanopticWriter:
    """Writes ``OUT/panoptic/NAME.png`` for each image and at the end ``OUT/panoptic.json``.

    Ids of segments go into the PNGs as they are. It is a context manager, which writes the JSON
    unless the block fails, and creates ``out_dir`` when needed. The files of a dataset's ``split``
    are called ``panoptic_{split}``, and its categories have supercategories.
    """

    def __init__(
        self, out_dir: Path, categories: CategoryTable, *, split: str | None = None
    ) -> None:
        self.out_dir = out_dir
        self.categories = categories
        self.split = split
        name = "panoptic" if split is None else f"panoptic_{split}"
        self._json_path, self.png_dir = out_dir / f"{name}.json", out_dir / name
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._file_names: set[str] = set()
        self._unsynced: list[str] = []
        self.png_dir.mkdir(parents=True, exist_ok=True)

    def keep_others(self, file_name: str) -> int:
        """Keep what an earlier ``panoptic.json`` says of other images; the id of ``file_name``.

        It is the number that the name's stem is, if no other image has it, else the next free one.

        Raises:
            RefineError: The earlier file is malformed or of other categories.
        """
        path, stem = self._json_path, PurePosixPath(file_name).stem
        if path.exists():
            document = parse_json_object(path.read_bytes(), source=str(path))
            if document.get("categories") != self.categories.to_json():
                raise RefineError(f"{path}: results of other categories; choose another folder")
            entries = document["annotations"]
            self._annotations = [a for a in entries if a["file_name"] != f"{stem}.png"]
            ids = {a["image_id"] for a in self._annotations}
            self._images = [image for image in document["images"] if image["id"] in ids]
        ids = {image["id"] for image in self._images}
        if stem.isdecimal() and int(stem) not in ids:
            return int(stem)
        return max(ids, default=0) + 1

    def add(
        self,
        image_id: int,
        file_name: str,
        panoptic: PanopticPrediction | GroundTruth,
        *,
        png_name: str,
    ) -> None:
        """Write the PNG of one image; its name may have subfolders.

        The map has the image's original size, and ids below 2^24. Segments of a prediction have
        scores, those of a truth may be crowds.

        Raises:
            RefineError: A second image with this PNG name.
        """
        self.claim(file_name, png_name)
        infos = write_panoptic(self.png_dir / png_name, panoptic, self.categories, is_synced=False)
        height, width = panoptic.segment_map.shape
        self.record(
            image_id, file_name, infos, png_name=png_name, size=(height, width), is_synced=False
        )

    def claim(self, file_name: str, png_name: str) -> None:
        """Keep the name of a PNG for an image; a RefineError if another image has it."""
        if png_name in self._file_names:
            raise RefineError(
                f"{file_name}: a second image called {png_name[:-4]!r} would overwrite the first "
                f"in {self.png_dir}; rename one"
            )
        self._file_names.add(png_name)

    def record(
        self,
        image_id: int,
        file_name: str,
        segments_info: Sequence[Mapping[str, Any]],
        *,
        png_name: str,
        size: tuple[int, int],
        is_synced: bool = True,
    ) -> None:
        """Note an image of ``size`` (height, width), whose PNG is written, for the JSON."""
        if not is_synced:
            self._unsynced.append(png_name)
        self._images.append(
            {"id": image_id, "file_name": file_name, "height": size[0], "width": size[1]}
        )
        self._annotations.append(
            {"image_id": image_id, "file_name": png_name, "segments_info": segments_info}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        document = {
            "images": self._images,
            "annotations": self._annotations,
            "categories": self.categories.to_json(supercategories=self.split is not None),
        }
        sync_files(self.png_dir / name for name in self._unsynced)
        write_text(self._json_path, json.dumps(document))


def write_panoptic(
    path: Path,
    panoptic: PanopticPrediction | GroundTruth | PanopticRuns,
    categories: CategoryTable,
    *,
    is_synced: bool = True,
) -> list[dict[str, Any]]:
    """Write a map, as :func:`write_bytes` does; its ``segments_info``, of a prediction with scores.

    A map may be in memory row by row or, better, column by column; runs by column are best.
    """
    values, lengths, (height, width) = _find_runs(panoptic)
    write_bytes(path, encode_column_runs(values, lengths, (height, width)), is_synced=is_synced)
    boxes = find_value_boxes(values, lengths, (width, height))
    infos: list[dict[str, Any]] = [
        {
            "id": segment.id,
            "category_id": categories[segment.category].dataset_id,
            "isthing": int(segment.is_thing),
            "area": segment.area,
            "bbox": _to_coco_box(boxes[segment.id]),
            "iscrowd": int(segment.is_crowd),
        }
        for segment in panoptic.segments
    ]
    if not isinstance(panoptic, GroundTruth):
        for info, segment in zip(infos, panoptic.segments, strict=True):
            info["score"] = round(segment.score, 6)
    return infos


def _find_runs(
    panoptic: PanopticPrediction | GroundTruth | PanopticRuns,
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Values and lengths of the runs column by column, and the size of the map."""
    if isinstance(panoptic, PanopticRuns):
        if panoptic.by_column:
            return panoptic.values, panoptic.lengths, panoptic.size
        panoptic = panoptic.paint()
    columns = np.ascontiguousarray(panoptic.segment_map.T)
    width, height = columns.shape
    return *find_label_runs(columns), (height, width)


def _to_coco_box(box: tuple[int, int, int, int]) -> list[int]:
    left, top, right, bottom = box
    return [left, top, right - left, bottom - top]
