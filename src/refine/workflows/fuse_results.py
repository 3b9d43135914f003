"""Fuse instance and semantic result files of anyone's networks into panoptic ones.

With ``fusion=heuristic`` this is the job of panopticapi's ``combine_semantic_and_instance_
predictions``, by the same rules; all other settings of ``conf/fusion`` that need no head apply.
"""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track

from refine.api.fuse_predictions import read_semantic
from refine.categories import CategoryTable
from refine.coco_format.annotations import ImageTable, load_image_table, load_panoptic_json
from refine.coco_format.json_entries import entries_of, parse_json_object, read_bytes
from refine.coco_format.mask_results import MaskResults, load_mask_results
from refine.coco_format.png import decode_segment_png
from refine.coco_format.semantic_files import SemanticFiles
from refine.coco_format.storage import open_storage
from refine.coco_format.writer import PanopticWriter
from refine.config.settings import FuseSettings
from refine.data.rows import paint_stuff, unpack_outlines
from refine.errors import RefineError
from refine.fusion.fuse_evidence import fuse
from refine.fusion.pixel_evidence import GivenEvidence
from refine.fusion.relations import asks_head
from refine.runs.console import print_table, say
from refine.types import GroundTruth
from refine.workflows.score_results import score_results

_Size = tuple[int, int]
_Semantic = tuple[np.ndarray, np.ndarray | None]  # as PixelEvidence takes it
_Reader = Callable[[int, str, _Size], _Semantic]


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
    read = _open_semantic(settings.semantic, images, categories, dataset_ids)
    read_truth = _open_truth(settings)
    out = Path(settings.out)
    columns = (images.ids.tolist(), images.names.tolist(), images.sizes.tolist())
    with PanopticWriter(out, categories) as writer:
        rows = zip(*columns, strict=True)
        for image_id, name, (height, width) in track(rows, "fusing", total=len(images.ids)):
            size = (height, width)
            result = fuse(
                _gather(instances, image_id, read(image_id, name, size), categories.num_things),
                settings.fusion,
                stuff_area_limit_px=settings.stuff_area_limit_px,
                truth=read_truth(image_id),
            )
            writer.add(
                image_id, name, result, png_name=f"{PurePosixPath(name).with_suffix('.png')}"
            )
    say(f"{len(images.ids)} images; results: {out / 'panoptic.json'}")
    return {} if settings.gt_json is None else _score(settings, out)


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
) -> _Reader:
    """What gives the semantic prediction of an image by its id, name and size."""
    if path.endswith(".json"):
        stuff = load_mask_results(Path(path), images, categories, are_instances=False)
        return lambda i, _, size: (paint_stuff(stuff, i, size, categories.num_things), None)
    files = SemanticFiles(Path(path), categories, dataset_ids)

    def read(_: int, name: str, size: _Size) -> _Semantic:
        values = files.read(name, size)
        if values.ndim == 2:
            return np.asfortranarray(values), None  # as the masks are
        if values.shape[1:] != size:
            channels = F.interpolate(torch.from_numpy(values)[None], size, mode="bilinear")
            values = channels[0].numpy()
        return read_semantic(values, np.arange(len(categories)))

    return read


def _gather(
    results: MaskResults, image_id: int, semantic: _Semantic, num_things: int
) -> GivenEvidence:
    """What is known of one image."""
    found = results.masks.of_image(image_id)
    size = (semantic[0].shape[0], semantic[0].shape[1])
    crops = unpack_outlines((i.outline for i in found), size).crops(size[0])
    boxes = [(c.x, c.y, c.x + c.mask.shape[1], c.y + c.mask.shape[0]) for c in crops]
    return GivenEvidence(
        crops,
        results.scores[[i.id for i in found]] if found else np.zeros(0),
        np.array([i.category for i in found], np.int64),
        np.array(boxes, np.float64).reshape(-1, 4),
        *semantic,
        num_things=num_things,
    )


def _open_truth(settings: FuseSettings) -> Callable[[int], GroundTruth | None]:
    """What gives the truth of an image by its id, None where no setting asks for it."""
    fusion = settings.fusion
    if settings.gt_json is None or "oracle" not in (
        fusion.relations.kind,
        fusion.unknown_erasing.mode,
    ):
        return lambda _: None
    truth = load_panoptic_json(Path(settings.gt_json))
    files = open_storage(Path(settings.gt_dir or settings.gt_json.removesuffix(".json")))
    rows = {image_id: k for k, image_id in enumerate(truth.image_ids.tolist())}

    def read(image_id: int) -> GroundTruth:
        if image_id not in rows:
            raise RefineError(f"{truth.source}: no image {image_id}; oracle needs its truth")
        k = rows[image_id]
        name, (height, width) = str(truth.file_names[k]), truth.sizes[k].tolist()
        source = f"{files.label}: {name}"
        segment_map = decode_segment_png(files.read(name), source=source, size=(height, width))
        return GroundTruth(segment_map=segment_map, segments=truth.segments(k))

    return read


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
