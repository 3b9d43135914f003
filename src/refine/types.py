"""The values that cross from one room to the next.

Coordinates are continuous pixels: pixel ``(row r, column c)`` has the box ``(c, r, c + 1, r + 1)``
(xyxy) and the centre ``(c + .5, r + .5)``. "Network pixels" are those of the resized, unpadded
image; "original pixels" those of the image file. Categories are contiguous ids (see
:mod:`refine.categories`).
"""

# torch is named in annotations only: refine.score uses these types and must start without torch
from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

IGNORE_INDEX = 255
"""Label of pixels without a semantic target (void)."""

STRIDE = 4
"""Network pixels per cell of the semantic logits and of IBPP's canvas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One region of one panoptic map.

    Attributes:
        id: Its value in the segment map, at least 1.
        category: Contiguous id.
        is_thing: Thing or stuff.
        area: Number of pixels, at original size (ground truth: as the JSON states it).
        score: Detection score in [0, 1]; 1 for stuff and ground truth.
        is_crowd: Ground truth only: a crowd region.
    """

    id: int
    category: int
    is_thing: bool
    area: int
    score: float = 1.0
    is_crowd: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class MaskCrop:
    """A binary mask, kept as the crop that holds it.

    ``mask`` is ``[h, w]`` bool, perhaps empty; it begins at row ``y`` and column ``x`` of the image
    and lies entirely inside.
    """

    y: int
    x: int
    mask: np.ndarray

    @property
    def slices(self) -> tuple[slice, slice]:
        """The crop's place in a full-size array."""
        height, width = self.mask.shape
        return slice(self.y, self.y + height), slice(self.x, self.x + width)


@dataclass(frozen=True, slots=True)
class CodedMask:
    """A :class:`MaskCrop` as compressed COCO run lengths, which travel well between processes."""

    height: int
    width: int
    counts: bytes
    y: int = 0
    x: int = 0


def _move(value: Any, device: torch.device | str, **options: bool) -> Any:
    if isinstance(value, dict):
        return {k: _move(v, device, **options) for k, v in value.items()}
    return value.to(device, **options) if hasattr(value, "to") else value


@dataclass(slots=True)
class _Movable:
    """A dataclass with tensors."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Every tensor on ``device``; what else there is stays on the host."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **_move(values, device, non_blocking=non_blocking))


@dataclass(slots=True, kw_only=True, eq=False)
class TrainingTarget(_Movable):
    """Targets of one image for the losses, at network size.

    Attributes:
        semantic: ``[H, W]`` uint8, contiguous category or 255 (ignore). Crowds keep their category.
        boxes: ``[N, 4]`` float32 xyxy network pixels, tight around each instance (no crowds).
        labels: ``[N]`` int64 thing categories, ``0 .. num_things - 1``.
        masks: N full outlines (they may overlap) as crops in network pixels.
        pairs: ``[K, 2]`` int64 positions in ``boxes``, the first on top of the second, or None.
    """

    semantic: Tensor
    boxes: Tensor
    labels: Tensor
    masks: tuple[CodedMask, ...]
    pairs: Tensor | None = None

    def pin_memory(self) -> Self:
        """The tensors in page-locked memory."""
        pinned = {
            name: tensor.pin_memory()
            for name in ("semantic", "boxes", "labels", "pairs")
            if (tensor := getattr(self, name)) is not None
        }
        return replace(self, **pinned)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InstanceTruth:
    """Instance annotations of one image at original size, for box and mask AP.

    Attributes:
        boxes: ``[N, 4]`` float32 xyxy original pixels.
        labels: ``[N]`` int64 thing categories.
        is_crowd: ``[N]`` bool.
        masks: N full outlines.
    """

    boxes: np.ndarray
    labels: np.ndarray
    is_crowd: np.ndarray
    masks: tuple[CodedMask, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroundTruth:
    """Ground truth of one image for an evaluation, at original size.

    Attributes:
        segment_map: ``[H, W]`` int32 compact ids: 0 is void, else an id of ``segments``.
        segments: Segments in ascending order of id.
        instances: Outlines of the instances JSON, if the dataset has one.
    """

    segment_map: np.ndarray
    segments: tuple[Segment, ...]
    instances: InstanceTruth | None = None


class View(NamedTuple):
    """A photo as the network sees it once more in test-time augmentation.

    Attributes:
        image: ``[3, h, w]`` uint8 RGB.
        is_flipped: Whether it is mirrored left and right.
    """

    image: Tensor
    is_flipped: bool


@dataclass(slots=True, kw_only=True, eq=False)
class Sample:
    """One image as it leaves the dataset.

    Attributes:
        image: ``[3, H, W]`` uint8 RGB at network size.
        image_id: Id in the JSON.
        file_name: Name of the image file.
        original_size: ``(height, width)`` of the image file.
        target: Training targets, or None.
        truth: Ground truth for evaluation, or None.
        is_padding: Whether it only repeats an image to fill a distributed sampler; metrics skip it.
        views: What the prediction is made of in test-time augmentation, instead of ``image``; the
            first one is not mirrored.
    """

    image: Tensor
    image_id: int
    file_name: str
    original_size: tuple[int, int]
    target: TrainingTarget | None = None
    truth: GroundTruth | None = None
    is_padding: bool = False
    views: tuple[View, ...] = ()


@dataclass(slots=True, kw_only=True, eq=False)
class Batch:
    """Images padded to a common size, with their samples.

    Attributes:
        images: ``[B, 3, H, W]`` uint8 RGB, H and W multiples of 32; zero beyond each image.
        image_sizes: ``(height, width)`` of each image before padding (network pixels).
        samples: One per image; their ``image`` is a view into ``images``.
    """

    images: Tensor
    image_sizes: tuple[tuple[int, int], ...]
    samples: tuple[Sample, ...]

    @property
    def targets(self) -> tuple[TrainingTarget, ...]:
        """The training targets; a ``ValueError`` if the batch was made for evaluation."""
        targets = tuple(s.target for s in self.samples if s.target is not None)
        if len(targets) != len(self.samples):
            raise ValueError("this batch carries no training targets")
        return targets

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """The tensors on ``device`` (Lightning calls this)."""
        images = self.images.to(device, non_blocking=non_blocking)
        samples = []
        for image, sample, (h, w) in zip(images, self.samples, self.image_sizes, strict=True):
            target = sample.target and sample.target.to(device, non_blocking=non_blocking)
            samples.append(replace(sample, image=image[:, :h, :w], target=target))
        return replace(self, images=images, samples=tuple(samples))

    def pin_memory(self) -> Self:
        """The images and targets in page-locked memory (the DataLoader calls this)."""
        samples = tuple(replace(s, target=s.target and s.target.pin_memory()) for s in self.samples)
        return replace(self, images=self.images.pin_memory(), samples=samples)


@dataclass(slots=True, kw_only=True, eq=False)
class PairOcclusions(_Movable):
    """Answers of an occlusion head: ``[K]`` float32 ``O(i, j)`` in [0, 1], i lies on top of j.

    ``pairs``: ``[K, 2]`` int64 ordered pairs ``(i, j)`` of detections, each in both orders.
    """

    pairs: Tensor
    probabilities: Tensor


@dataclass(slots=True, kw_only=True, eq=False)
class RawPrediction(_Movable):
    """The network's prediction for one image, before fusion.

    Attributes:
        boxes: ``[N, 4]`` float32 xyxy network pixels, inside the image.
        scores: ``[N]`` float32 in [0, 1], descending.
        labels: ``[N]`` int64 thing categories.
        mask_logits: ``[N, m, m]`` float32, the mask of each label inside its box.
        semantic_logits: ``[C, h, w]`` float32 at stride 4 of the padded image.
        image_size: ``(height, width)`` in network pixels, without padding.
        original_size: ``(height, width)`` in original pixels.
        occlusions: Answers of the occlusion heads by name.
        rankings: ``[N]`` float32 ranking scores of the ranking heads (SRM) by name.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    mask_logits: Tensor
    semantic_logits: Tensor
    image_size: tuple[int, int]
    original_size: tuple[int, int]
    occlusions: dict[str, PairOcclusions] = field(default_factory=dict)
    rankings: dict[str, Tensor] = field(default_factory=dict)


class Observation(NamedTuple):
    """The network's prediction for one image, and the features that occlusion heads read.

    ``features``: ``[N, C, 14, 14]`` RoI features: the pyramid's, with IBPP plus F_sem's (eq. 4).
    """

    raw: RawPrediction
    features: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IterationTrace:
    """The prediction of one iteration of IBPP for one image, to be looked at.

    Iteration 0 has the semantic map that no instance has influenced.

    Attributes:
        raw: Masks and semantic logits; no detections at iteration 0, which has no masks (but a
            network without IBPP has iteration 0 alone, with its detections).
        canvas: ``[num_things, h, w]`` float32 in [0, 1] at stride 4 of the padded image: the masks
            as the semantic head sees them; zero at iteration 0.
    """

    raw: RawPrediction
    canvas: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PanopticPrediction:
    """The panoptic map of one image: ``[H, W]`` int32 at original size, 0 for void.

    Every other id of ``segment_map`` stands exactly once in ``segments``; no segment is empty.
    """

    segment_map: np.ndarray
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PanopticRuns:
    """A :class:`PanopticPrediction` of ``size`` (height, width) as R runs of equal pixels.

    ``values`` are ``[R]`` int32, ``lengths`` ``[R]`` int64, column by column if ``by_column``, else
    row by row. Each run ends inside its column or row; those of one value may follow each other.
    """

    values: np.ndarray
    lengths: np.ndarray
    size: tuple[int, int]
    by_column: bool
    segments: tuple[Segment, ...]

    def paint(self) -> PanopticPrediction:
        """The map in pixels, in memory as the runs are."""
        pixels = np.repeat(self.values, self.lengths)
        segment_map = pixels.reshape(self.size, order="F" if self.by_column else "C")
        return PanopticPrediction(segment_map=segment_map, segments=self.segments)
