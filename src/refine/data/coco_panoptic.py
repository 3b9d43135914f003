"""Images of a COCO-panoptic dataset with their targets or their truth."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from refine.categories import CategoryTable
from refine.coco_format.instances import InstanceAnnotation
from refine.coco_format.layout import DatasetFiles
from refine.data.images import decode_image
from refine.data.pairs.occlusion_pairs import OcclusionPairs
from refine.data.rows import check_size, instances_of_image, original_mask, read_runs
from refine.data.segment_runs import SegmentRuns, find_crops
from refine.data.transforms import (
    Geometry,
    draw_geometry,
    eval_geometry,
    transform_crop,
    transform_image,
    transform_map,
    transform_polygon,
)
from refine.errors import RefineError
from refine.ops.outlines import decode_mask, encode_mask, rasterize_polygons, tight_crop
from refine.options import ImageOptions
from refine.types import (
    IGNORE_INDEX,
    CodedMask,
    GroundTruth,
    InstanceTruth,
    MaskCrop,
    Sample,
    Segment,
    TrainingTarget,
)


class _Outlined(NamedTuple):
    """An instance that is no crowd, in original pixels."""

    category: int
    outline: tuple[np.ndarray, ...] | CodedMask | MaskCrop
    annotation_id: int | None = None


class SampleKey(NamedTuple):
    """What a training sample is a function of, beside the dataset's seed.

    Attributes:
        epoch: From 0 on.
        place: Which image of the dataset.
    """

    epoch: int
    place: int


class CocoPanopticDataset(Dataset[Sample]):
    """One split, for training or for evaluation.

    A training sample has a random geometry, a function of (``seed``, epoch, place) alone, and a
    :class:`~refine.types.TrainingTarget`: instances are the full outlines of the instances JSON if
    there is one, else the visible regions of the panoptic map. With ``pairs``, the target holds
    those of the image; an instance that a crop cuts off takes its pairs with it. An evaluation
    sample has the image at evaluation size and its :class:`~refine.types.GroundTruth` at original
    size. An index from ``len(dataset)`` on starts over, marked as padding.

    Args:
        files: The split.
        options: Sizes and augmentation.
        training: Give training targets, else the ground truth.
        augment: Draw the geometry of training samples; else they have that of evaluation.
        seed: Of the augmentation.
        image_ids: Use these images only, in this order.
        pairs: Of this split, for the training targets; without, they have none.

    Raises:
        RefineError: ``image_ids`` names an image that the split does not have, or one twice; or
            there are more categories than a byte can tell apart.
        ValueError: There are ``pairs`` of a split without an instances JSON.
    """

    def __init__(
        self,
        files: DatasetFiles,
        options: ImageOptions,
        *,
        training: bool,
        augment: bool = True,
        seed: int = 0,
        image_ids: Sequence[int] | None = None,
        pairs: OcclusionPairs | None = None,
    ) -> None:
        if len(files.annotations.categories) > IGNORE_INDEX:
            raise RefineError(f"{files.annotations.source}: more than {IGNORE_INDEX} categories")
        if pairs is not None and files.instances is None:
            raise ValueError("pairs are of instance annotations, and there are none")
        self.files = files
        self.options = options
        self.training = training
        self.augment = augment
        self.seed = seed
        self.pairs = pairs
        self._rows = _select(files, image_ids)

    @property
    def categories(self) -> CategoryTable:
        """The categories of the split."""
        return self.files.annotations.categories

    @property
    def is_wide(self) -> np.ndarray:
        """``[N]`` bool: the image is at least as wide as high."""
        sizes = self.files.annotations.sizes[self._rows]
        wide: np.ndarray = sizes[:, 1] >= sizes[:, 0]
        return wide

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: SampleKey | int) -> Sample:
        """Read one sample.

        Raises:
            RefineError: A file is missing or damaged, or does not fit the JSON.
        """
        epoch, index = key if isinstance(key, SampleKey) else SampleKey(0, key)
        place = index % len(self)
        row = int(self._rows[place])
        image = self._read_image(row)
        size = (image.shape[0], image.shape[1])
        segments = self.files.annotations.segments(row)
        runs = self._read_runs(row, segments)
        geometry = eval_geometry(size, self.options)
        target = truth = None
        if self.training:
            if self.augment:
                rng = np.random.default_rng((self.seed, epoch, place))
                geometry = draw_geometry(size, self.options, rng)
            target = self._make_target(row, segments, runs=runs, geometry=geometry)
        else:
            truth = self._make_truth(row, segments, runs=runs)
        return Sample(
            image=transform_image(image, geometry),
            image_id=int(self.files.annotations.image_ids[row]),
            file_name=str(self.files.annotations.image_names[row]),
            original_size=size,
            target=target,
            truth=truth,
            is_padding=index >= len(self),
        )

    def read_truth(self, index: int) -> tuple[int, str, GroundTruth]:
        """Image id, file name and ground truth, without reading the image.

        Args:
            index: Below ``len(dataset)``.

        Raises:
            RefineError: A file is missing or damaged, or does not fit the JSON.
        """
        row = int(self._rows[index])
        segments = self.files.annotations.segments(row)
        truth = self._make_truth(row, segments, runs=self._read_runs(row, segments))
        annotations = self.files.annotations
        return int(annotations.image_ids[row]), str(annotations.image_names[row]), truth

    @property
    def image_ids(self) -> list[int]:
        """Of every image, in order."""
        ids: list[int] = self.files.annotations.image_ids[self._rows].tolist()
        return ids

    def _read_image(self, row: int) -> np.ndarray:
        name = str(self.files.annotations.image_names[row])
        source = f"{self.files.images.label}/{name}"
        image = decode_image(self.files.images.read(name), source=source)
        annotations = self.files.annotations
        check_size(image, self._size(row), source=source, json_name=annotations.source)
        return image

    def _read_runs(self, row: int, segments: Sequence[Segment]) -> SegmentRuns:
        annotations = self.files.annotations
        return read_runs(
            self.files.pngs,
            str(annotations.file_names[row]),
            segments=segments,
            size=self._size(row),
            json_name=annotations.source,
        )

    def _size(self, row: int) -> tuple[int, int]:
        """As the JSON states it."""
        height, width = self.files.annotations.sizes[row].tolist()
        return height, width

    def _make_target(
        self, row: int, segments: Sequence[Segment], *, runs: SegmentRuns, geometry: Geometry
    ) -> TrainingTarget:
        semantic = runs.paint(_semantic_values(segments))
        kept = [
            (instance, crop)
            for instance in self._outlined(row, segments, runs=runs)
            if (crop := _transform_outline(instance.outline, geometry)) is not None
        ]
        boxes = np.array([_box(crop) for _, crop in kept], dtype=np.float32).reshape(-1, 4)
        return TrainingTarget(
            semantic=torch.from_numpy(transform_map(semantic, geometry)),
            boxes=torch.from_numpy(boxes),
            labels=torch.tensor([instance.category for instance, _ in kept], dtype=torch.int64),
            masks=tuple(encode_mask(crop) for _, crop in kept),
            pairs=self._pairs(row, [instance.annotation_id for instance, _ in kept]),
        )

    def _outlined(
        self, row: int, segments: Sequence[Segment], *, runs: SegmentRuns
    ) -> list[_Outlined]:
        annotations = self._instances(row)
        if annotations is not None:
            return [_Outlined(a.category, a.outline, a.id) for a in annotations if not a.is_crowd]
        places = [k for k, s in enumerate(segments, start=1) if s.is_thing and not s.is_crowd]
        crops = find_crops(runs, places)
        return [
            _Outlined(segments[k - 1].category, crop) for k, crop in zip(places, crops, strict=True)
        ]

    def _instances(self, row: int) -> tuple[InstanceAnnotation, ...] | None:
        """None without an instances JSON."""
        if self.files.instances is None:
            return None
        image_id = int(self.files.annotations.image_ids[row])
        return instances_of_image(self.files.instances, image_id, self._size(row))

    def _pairs(self, row: int, kept: Sequence[int | None]) -> Tensor | None:
        """``[K, 2]`` positions of the pairs of which both are among the annotations ``kept``."""
        if self.pairs is None:
            return None
        place = {annotation_id: k for k, annotation_id in enumerate(kept)}
        pairs = self.pairs.of_image(int(self.files.annotations.image_ids[row])).tolist()
        found = [(place[i], place[j]) for i, j in pairs if i in place and j in place]
        return torch.tensor(found, dtype=torch.int64).reshape(-1, 2)

    def _make_truth(
        self, row: int, segments: Sequence[Segment], *, runs: SegmentRuns
    ) -> GroundTruth:
        compact = [
            Segment(
                id=k,
                category=s.category,
                is_thing=s.is_thing,
                area=s.area,
                is_crowd=s.is_crowd,
            )
            for k, s in enumerate(segments, start=1)
        ]
        annotations = self._instances(row)
        instances = None if annotations is None else _instance_truth(annotations, runs.shape)
        return GroundTruth(
            segment_map=runs.paint(np.arange(len(segments) + 1, dtype=np.int32)),
            segments=tuple(compact),
            instances=instances,
        )


def _select(files: DatasetFiles, image_ids: Sequence[int] | None) -> np.ndarray:
    """Rows of the annotations."""
    known = files.annotations.image_ids
    if image_ids is None:
        return np.arange(len(known))
    if not image_ids or len(set(image_ids)) != len(image_ids):
        raise RefineError(f"image ids {list(image_ids)!r}: name at least one, each once")
    rows = {image_id: row for row, image_id in enumerate(known.tolist())}
    for image_id in image_ids:
        if image_id not in rows:
            raise RefineError(f"{files.annotations.source}: no image id {image_id}; mend the list")
    return np.array([rows[image_id] for image_id in image_ids])


def _semantic_values(segments: Sequence[Segment]) -> np.ndarray:
    """Label of void and of each segment; crowds keep their category (algorithm: D2's converter)."""
    return np.array([IGNORE_INDEX, *(s.category for s in segments)], dtype=np.uint8)


def _transform_outline(
    outline: tuple[np.ndarray, ...] | CodedMask | MaskCrop, geometry: Geometry
) -> MaskCrop | None:
    """The tight mask of an outline in the result, or None if nothing of it is left."""
    if isinstance(outline, tuple):
        polygons = [transform_polygon(polygon, geometry) for polygon in outline]
        return rasterize_polygons(polygons, geometry.size)
    crop = tight_crop(decode_mask(outline).mask) if isinstance(outline, CodedMask) else outline
    moved = transform_crop(crop, geometry) if crop is not None else None
    return tight_crop(moved.mask, y=moved.y, x=moved.x) if moved is not None else None


def _box(crop: MaskCrop) -> tuple[int, int, int, int]:
    height, width = crop.mask.shape
    return crop.x, crop.y, crop.x + width, crop.y + height


def _instance_truth(
    annotations: Sequence[InstanceAnnotation], size: tuple[int, int]
) -> InstanceTruth:
    empty = MaskCrop(y=0, x=0, mask=np.zeros((0, 0), dtype=bool))
    crops = [original_mask(a.outline, size) or empty for a in annotations]
    return InstanceTruth(
        boxes=np.array([a.box for a in annotations], dtype=np.float32).reshape(-1, 4),
        labels=np.array([a.category for a in annotations], dtype=np.int64),
        is_crowd=np.array([a.is_crowd for a in annotations], dtype=bool),
        masks=tuple(encode_mask(crop) for crop in crops),
    )
