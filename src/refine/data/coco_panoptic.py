"""Images of a COCO-panoptic dataset with their targets or their truth."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from refine.categories import CategoryTable
from refine.coco_format.instances import Outline
from refine.coco_format.layout import DatasetFiles
from refine.coco_format.segment_runs import SegmentRuns
from refine.data.outline_fit import check_outline_fit
from refine.data.pairs.occlusion_pairs import OcclusionPairs
from refine.data.rows import ImageRow, original_mask, read_row
from refine.data.transforms import (
    Geometry,
    draw_geometry,
    eval_geometry,
    make_views,
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
    TrainingTarget,
)

_log = logging.getLogger(__name__)


class SampleKey(NamedTuple):
    """The epoch (from 0) and the position of an image: with the seed, all that makes a sample."""

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
        training: Whether samples have training targets, else the ground truth.
        augment: Whether the geometry of training samples is drawn, else that of evaluation.
        seed: Seed of the augmentation.
        image_ids: Images to use, in this order; None is all.
        pairs: Occlusion pairs of this split for the training targets, which otherwise have none.

    Attributes:
        has_targets: Whether samples have training targets; for evaluation samples, too, it may be
            set.

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
        self.has_targets = training
        self.augment = augment
        self.seed = seed
        self.pairs = pairs
        self._rows = _select(files, image_ids)

    def check(self) -> None:
        """Refuse what gives nothing to learn or to measure, and outlines of other images.

        It warns of half of that. A ``RefineError`` says what is missing.
        """
        annotations, num_things = self.files.annotations, self.categories.num_things
        source, split = annotations.source, "training" if self.training else "evaluation"
        owners = np.repeat(np.arange(len(annotations)), np.diff(annotations.offsets))
        present = annotations.segment_categories[np.isin(owners, self._rows)]
        present = present[present >= 0]  # others are void by choice
        if not len(present):
            raise RefineError(
                f"{source}: none of the {len(self)} images for {split} has a segment; annotate "
                "some, or choose others"
            )
        is_thing = present < num_things
        for kind, count, known in (
            ("things", is_thing.sum(), num_things),
            ("stuff", (~is_thing).sum(), len(self.categories) - num_things),
        ):
            if self.training and known and not count:
                _log.warning("%s: no image for training has %s: nothing to learn", source, kind)
        check_outline_fit(self.files, self._rows)

    @property
    def categories(self) -> CategoryTable:
        """The categories of the split."""
        return self.files.annotations.categories

    @property
    def image_ids(self) -> list[int]:
        """The ids of all images, in order."""
        return [int(i) for i in self.files.annotations.image_ids[self._rows]]

    @property
    def sizes(self) -> np.ndarray:
        """``[N, 2]`` int64 height and width of every image."""
        sizes: np.ndarray = self.files.annotations.sizes[self._rows]
        return sizes

    def thing_sides(self) -> np.ndarray:
        """``[K]`` float64 square roots of the areas of all things, in short sides of their image.

        Crowds are left out.
        """
        annotations, num_things = self.files.annotations, self.categories.num_things
        owners = np.repeat(np.arange(len(annotations)), np.diff(annotations.offsets))
        categories = annotations.segment_categories
        is_thing = (categories >= 0) & (categories < num_things) & ~annotations.segment_crowds
        chosen = np.flatnonzero(is_thing & np.isin(owners, self._rows))
        shorts = annotations.sizes.min(axis=1)[owners[chosen]]
        sides: np.ndarray = np.sqrt(annotations.segment_areas[chosen]) / shorts
        return sides

    @property
    def is_wide(self) -> np.ndarray:
        """``[N]`` bool: the image is at least as wide as high."""
        heights, widths = self.sizes.T
        wide: np.ndarray = widths >= heights
        return wide

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: SampleKey | int) -> Sample:
        """Read one sample; a RefineError if a file is missing, damaged or does not fit the JSON."""
        epoch, index = key if isinstance(key, SampleKey) else SampleKey(0, key)
        place = index % len(self)
        row = read_row(self.files, int(self._rows[place]))
        image = row.read_image(self.files.images)
        runs = row.read_runs(self.files.pngs)
        geometry = eval_geometry(row.size, self.options)
        target = truth = None
        if self.training and self.augment:
            rng = np.random.default_rng((self.seed, epoch, place))
            geometry = draw_geometry(row.size, self.options, rng)
        if self.has_targets:
            target = self._make_target(row, runs, geometry)
        if not self.training:
            truth = _make_truth(row, runs)
        return Sample(
            image=transform_image(image, geometry),
            image_id=row.image_id,
            file_name=row.image_name,
            original_size=row.size,
            target=target,
            truth=truth,
            is_padding=index >= len(self),
            views=() if self.training else make_views(image, self.options),
        )

    def read_truth(self, index: int) -> tuple[int, str, GroundTruth]:
        """Id, file name and ground truth of the image at a position, without reading the image.

        Raises:
            RefineError: The PNG is missing or damaged, or does not fit the JSON.
        """
        row = read_row(self.files, int(self._rows[index]))
        return row.image_id, row.image_name, _make_truth(row, row.read_runs(self.files.pngs))

    def _make_target(self, row: ImageRow, runs: SegmentRuns, geometry: Geometry) -> TrainingTarget:
        # void is ignored; crowds keep their category (algorithm: D2's converter)
        values = np.array([IGNORE_INDEX, *(s.category for s in row.segments)], dtype=np.uint8)
        kept = [
            (category, crop, annotation_id)
            for category, outline, annotation_id in _outlined(row, runs)
            if (crop := _transform_outline(outline, geometry)) is not None
        ]
        boxes = [(x.start, y.start, x.stop, y.stop) for y, x in (c.slices for _, c, _ in kept)]
        pairs = None
        if self.pairs is not None:
            place = {annotation_id: k for k, (_, _, annotation_id) in enumerate(kept)}
            known = self.pairs.of_image(row.image_id).tolist()
            found = [(place[i], place[j]) for i, j in known if i in place and j in place]
            pairs = torch.tensor(found, dtype=torch.int64).reshape(-1, 2)
        return TrainingTarget(
            semantic=torch.from_numpy(transform_map(runs.paint(values), geometry)),
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor([category for category, _, _ in kept], dtype=torch.int64),
            masks=tuple(encode_mask(crop) for _, crop, _ in kept),
            pairs=pairs,
        )


def _select(files: DatasetFiles, image_ids: Sequence[int] | None) -> np.ndarray:
    """Positions of the images in the annotations."""
    known = files.annotations.image_ids
    if image_ids is None:
        return np.arange(len(known))
    if not image_ids or len(set(image_ids)) != len(image_ids):
        raise RefineError(f"image ids {list(image_ids)!r}: name at least one, each once")
    rows = {image_id: row for row, image_id in enumerate(known.tolist())}
    for image_id in image_ids:
        if image_id not in rows:
            raise RefineError(f"{files.annotations.source}: no image id {image_id}; fix the list")
    return np.array([rows[image_id] for image_id in image_ids])


def _outlined(
    row: ImageRow, runs: SegmentRuns
) -> Iterator[tuple[int, Outline | MaskCrop, int | None]]:
    """Category, outline and annotation id of the instances that are no crowds.

    Outlines are full if the row has any, else what the segment map shows (without an id).
    """
    if row.instances is not None:
        yield from ((a.category, a.outline, a.id) for a in row.instances if not a.is_crowd)
        return
    places = [k for k, s in enumerate(row.segments, start=1) if s.is_thing and not s.is_crowd]
    for k, crop in zip(places, runs.find_crops(places), strict=True):
        yield row.segments[k - 1].category, crop, None


def _transform_outline(outline: Outline | MaskCrop, geometry: Geometry) -> MaskCrop | None:
    """The tight mask of an outline in the result, or None if nothing of it is left."""
    if isinstance(outline, tuple):
        polygons = [transform_polygon(polygon, geometry) for polygon in outline]
        return rasterize_polygons(polygons, geometry.size)
    crop = tight_crop(decode_mask(outline).mask) if isinstance(outline, CodedMask) else outline
    moved = transform_crop(crop, geometry) if crop is not None else None
    return tight_crop(moved.mask, y=moved.y, x=moved.x) if moved is not None else None


def _make_truth(row: ImageRow, runs: SegmentRuns) -> GroundTruth:
    instances = None
    if row.instances is not None:
        empty = MaskCrop(y=0, x=0, mask=np.zeros((0, 0), dtype=bool))
        crops = [original_mask(a.outline, row.size) or empty for a in row.instances]
        instances = InstanceTruth(
            boxes=np.array([a.box for a in row.instances], dtype=np.float32).reshape(-1, 4),
            labels=np.array([a.category for a in row.instances], dtype=np.int64),
            is_crowd=np.array([a.is_crowd for a in row.instances], dtype=bool),
            masks=tuple(encode_mask(crop) for crop in crops),
        )
    return GroundTruth(
        segment_map=runs.paint(np.arange(len(row.segments) + 1, dtype=np.int32)),
        segments=tuple(replace(s, id=k) for k, s in enumerate(row.segments, start=1)),
        instances=instances,
    )
