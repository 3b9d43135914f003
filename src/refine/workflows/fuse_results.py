"""Fuse instance and semantic result files of anyone's networks into panoptic ones.

With ``fusion=heuristic`` this is the job of panopticapi's ``combine_semantic_and_instance_
predictions``, by the same rules; all other settings of ``conf/fusion`` that need no head apply.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from torch.utils.data import Dataset

from refine.api.fuse_predictions import read_semantic
from refine.categories import CategoryTable
from refine.coco_format.annotations import (
    ImageTable,
    PanopticAnnotations,
    load_image_table,
    load_panoptic_json,
)
from refine.coco_format.json_entries import entries_of, parse_json_object, read_bytes
from refine.coco_format.mask_results import MaskResults, load_mask_results
from refine.coco_format.png import decode_segment_png
from refine.coco_format.semantic_files import SemanticFiles
from refine.coco_format.storage import Storage, open_storage
from refine.coco_format.writer import PanopticWriter, write_panoptic
from refine.config.settings import FuseSettings
from refine.data.rows import paint_stuff
from refine.data.worker_tasks import run_tasks
from refine.errors import RefineError
from refine.fusion.fuse_evidence import fuse_to_runs
from refine.fusion.pixel_evidence import GivenEvidence
from refine.fusion.relations import asks_head
from refine.runs.console import print_table, say
from refine.types import GroundTruth
from refine.workflows.score_results import score_results

_PIXELS_A_TASK = 2**21  # a few photos; one, if it is larger

_Size = tuple[int, int]
_Semantic = tuple[np.ndarray, np.ndarray | None]  # as PixelEvidence takes it
_Infos = list[dict[str, Any]]


def fuse_results(settings: FuseSettings) -> dict[str, float | int]:
    """Write ``panoptic/`` and ``panoptic.json`` into ``out``; the metrics if there is a truth.

    Every image of ``images_json`` gets a result, without segments if nothing was predicted.

    Raises:
        RefineError: A file is missing or malformed, contradicts another, or cannot answer what the
            fusion asks.
    """
    images_json = settings.images_json
    if images_json is None:
        raise RefineError("images_json: give a COCO JSON that lists the images, or gt_json=")
    _check_relation(settings)
    images = load_image_table(Path(images_json))
    categories, dataset_ids = _load_categories(Path(settings.categories_json or images_json))
    instances = load_mask_results(
        Path(settings.instances),
        images,
        categories,
        are_instances=True,
        least_score=settings.fusion.merge.score_thresh,
    )
    semantic = _open_semantic(settings.semantic, images, categories, dataset_ids)
    truth = _open_truth(settings)
    out = Path(settings.out)
    with PanopticWriter(out, categories) as writer:
        columns = (images.ids.tolist(), images.names.tolist(), images.sizes.tolist())
        png_names = [f"{PurePosixPath(name).with_suffix('.png')}" for name in columns[1]]
        for name, png_name in zip(columns[1], png_names, strict=True):
            writer.claim(name, png_name)
        paths = [writer.png_dir / name for name in png_names]
        found = _run(_Tasks(settings, categories, instances, semantic, truth, paths))
        rows = zip(*columns, png_names, found, strict=True)
        for image_id, name, (height, width), png_name, infos in rows:
            size = (height, width)
            writer.record(image_id, name, infos, png_name=png_name, size=size, is_synced=False)
    say(f"{len(images.ids)} images; results: {out / 'panoptic.json'}")
    return {} if settings.gt_json is None else _score(settings, out)


class _Tasks(Dataset[list[_Infos]]):
    """A few images at a time: the PNGs are written, and what the JSON says of each is returned."""

    def __init__(
        self,
        settings: FuseSettings,
        categories: CategoryTable,
        instances: MaskResults,
        semantic: MaskResults | SemanticFiles,
        truth: "_Truth | None",
        paths: Sequence[Path],
    ) -> None:
        self.settings, self.categories, self.paths = settings, categories, paths
        self.instances, self.semantic, self.truth = instances, semantic, truth
        pixels = np.cumsum(instances.images.sizes.prod(axis=1))
        ends = np.flatnonzero(np.diff(pixels // _PIXELS_A_TASK)) + 1
        self.limits = [0, *ends.tolist(), len(pixels)]

    def __len__(self) -> int:
        return len(self.limits) - 1

    def __getitem__(self, task: int) -> list[_Infos]:
        first, last = self.limits[task : task + 2]
        instances = self.instances.part(first, last)
        evidence = _gather(instances, self._read_semantic(first, last), self.categories)
        infos = []
        for image_id, path, known in zip(
            instances.images.ids.tolist(), self.paths[first:last], evidence, strict=True
        ):
            result = fuse_to_runs(
                known,
                self.settings.fusion,
                stuff_area_limit_px=self.settings.stuff_area_limit_px,
                truth=self.truth and self.truth.read(image_id),
            )
            infos.append(write_panoptic(path, result, self.categories, is_synced=False))
        return infos

    def _read_semantic(self, first: int, last: int) -> Iterator[_Semantic]:
        if isinstance(self.semantic, MaskResults):
            for labels in paint_stuff(self.semantic.part(first, last)):
                yield labels, None
            return
        images = self.instances.images.part(first, last)
        for name, (height, width) in zip(images.names.tolist(), images.sizes.tolist(), strict=True):
            yield _read_semantic(self.semantic, name, (height, width), len(self.categories))


def _run(tasks: _Tasks) -> Iterator[_Infos]:
    """What the JSON says of each image, in their order."""
    num_workers = min(tasks.settings.num_workers, os.cpu_count() or 1, len(tasks) // 2)
    # workers start before the thread that shows the progress
    for infos in track(run_tasks(tasks, num_workers=num_workers), "fusing", total=len(tasks)):
        yield from infos


def _check_relation(settings: FuseSettings) -> None:
    kind = settings.fusion.relations.kind
    if asks_head(kind):
        raise RefineError(
            f"fusion.relations.kind={kind} asks a head of a network, and result files have none; "
            "choose score, area, shr or oracle, or give refine.fuse_predictions the occlusions"
        )
    modes = (kind, settings.fusion.unknown_erasing.mode)
    if "oracle" in modes and settings.gt_json is None:
        raise RefineError("gt_json: fusion by the truth (oracle) needs it; give panoptic JSON")


def _load_categories(path: Path) -> tuple[CategoryTable, list[int]]:
    """The table, and the dataset ids in the file's order."""
    document = parse_json_object(read_bytes(path), source=str(path))
    entries = entries_of(document, "categories", source=str(path))
    return CategoryTable.of(entries.items, source=str(path)), entries.integers("id").tolist()


def _open_semantic(
    path: str, images: ImageTable, categories: CategoryTable, dataset_ids: list[int]
) -> MaskResults | SemanticFiles:
    if path.endswith(".json"):
        return load_mask_results(Path(path), images, categories, are_instances=False)
    return SemanticFiles(Path(path), categories, dataset_ids)


def _read_semantic(files: SemanticFiles, name: str, size: _Size, num_categories: int) -> _Semantic:
    values = files.read(name, size)
    if values.ndim == 2:
        return np.asfortranarray(values), None  # as the masks are
    if values.shape[1:] != size:
        channels = F.interpolate(torch.from_numpy(values)[None], size, mode="bilinear")
        values = channels[0].numpy()
    return read_semantic(values, np.arange(num_categories))


def _gather(
    results: MaskResults, semantics: Iterable[_Semantic], categories: CategoryTable
) -> Iterator[GivenEvidence]:
    """What is known of each image."""
    heights = np.repeat(results.images.sizes[:, 0], np.diff(results.offsets))
    crops = results.runs.crops(heights)
    boxes = [(c.x, c.y, c.x + c.mask.shape[1], c.y + c.mask.shape[0]) for c in crops]
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    for semantic, (first, last) in zip(semantics, pairwise(results.offsets.tolist()), strict=True):
        yield GivenEvidence(
            crops[first:last],
            results.scores[first:last],
            results.categories[first:last],
            corners[first:last],
            *semantic,
            num_things=categories.num_things,
        )


class _Truth(NamedTuple):
    """The truth of images, for the oracles."""

    annotations: PanopticAnnotations
    files: Storage
    places: dict[int, int]

    def read(self, image_id: int) -> GroundTruth:
        annotations, k = self.annotations, self.places.get(image_id)
        if k is None:
            raise RefineError(f"{annotations.source}: no image {image_id}; oracle needs its truth")
        name, (height, width) = str(annotations.file_names[k]), annotations.sizes[k].tolist()
        source = f"{self.files.label}: {name}"
        segment_map = decode_segment_png(self.files.read(name), source=source, size=(height, width))
        return GroundTruth(segment_map=segment_map, segments=annotations.segments(k))


def _open_truth(settings: FuseSettings) -> _Truth | None:
    """The truth, if a setting asks for it."""
    fusion = settings.fusion
    asks = (fusion.relations.kind, fusion.unknown_erasing.mode)
    if settings.gt_json is None or "oracle" not in asks:
        return None
    truth = load_panoptic_json(Path(settings.gt_json))
    files = open_storage(Path(settings.gt_dir or settings.gt_json.removesuffix(".json")))
    return _Truth(truth, files, {i: k for k, i in enumerate(truth.image_ids.tolist())})


def _score(settings: FuseSettings, out: Path) -> dict[str, float | int]:
    assert settings.gt_json is not None
    result = score_results(
        Path(settings.gt_json),
        out / "panoptic.json",
        gt_dir=settings.gt_dir,
        pred_dir=out / "panoptic",
    )
    print_table(result.groups, result.metrics)
    return result.metrics
