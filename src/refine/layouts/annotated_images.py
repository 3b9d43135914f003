"""What every layout gives: images, one by one, with their segments and outlines."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from refine.categories import CategoryTable
from refine.coco_format.instances import Outline
from refine.coco_format.storage import Storage
from refine.errors import RefineError
from refine.types import MaskCrop, Segment

_PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shape:
    """A region with an outline of its own: contiguous category, outline, and its tight pixels."""

    category: int
    outline: Outline
    crop: MaskCrop
    is_crowd: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnnotatedImage:
    """The annotations of one image.

    Attributes:
        image_id: Its id in the dataset.
        image_name: Name of the photo among the layout's ``images``.
        segment_map: ``[H, W]`` int32, 0 for void, else the id of a segment.
        segments: The segments, each with at least a pixel.
        outlines: Full outlines of the things, if the layout has any.
        notes: What was noticed, in words that fit behind a number, and how often.
    """

    image_id: int
    image_name: str
    segment_map: np.ndarray
    segments: tuple[Segment, ...]
    outlines: tuple[Shape, ...] | None = None
    notes: Counter[str] = field(default_factory=Counter)


class Layout(ABC):
    """A dataset in somebody's layout: a sequence of images that are read when they are asked for.

    Attributes:
        categories: The categories of the dataset.
        images: The photos.
        has_outlines: Whether every image comes with outlines.
    """

    categories: CategoryTable
    images: Storage
    has_outlines: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """Number of annotated images."""

    @abstractmethod
    def read(self, k: int) -> AnnotatedImage:
        """Image ``k``; a RefineError names a file that is missing, damaged or of another size."""


def find_photos(images: Storage) -> dict[str, str]:
    """The photos by what their annotations are called: name without ending, folders included.

    Raises:
        RefineError: There is none, or two have one name but for the ending.
    """
    photos: dict[str, str] = {}
    for name in images.names():
        path = PurePosixPath(name)
        if path.suffix.lower() in _PHOTO_SUFFIXES:
            stem = str(path.with_suffix(""))
            if stem in photos:
                raise RefineError(
                    f"{images.label}: {photos[stem]} and {name} differ in their ending only; an "
                    "annotation could belong to either, rename one"
                )
            photos[stem] = name
    if not photos:
        raise RefineError(f"{images.label}: no photos ({' '.join(_PHOTO_SUFFIXES)}); check images=")
    return photos


def pair_with_photos(
    annotations: Sequence[str], images: Storage, *, label: str
) -> list[tuple[str, str]]:
    """``(photo, annotation)`` names of the annotation files that are called as a photo is.

    Files without a photo are a :class:`RefineError`; photos without a file are left out.
    """
    photos = find_photos(images)
    pairs = []
    for name in annotations:
        stem = str(PurePosixPath(name).with_suffix(""))
        if stem not in photos:
            raise RefineError(f"{label}: {name} has no photo {stem}.* in {images.label}; add it")
        pairs.append((photos[stem], name))
    if not pairs:
        raise RefineError(f"{label}: no annotation files; check the folder")
    return pairs
