"""What the files say of one image: its annotations, and its segment map as runs of equal pixels.

Only painting the runs touches every pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from refine.coco_format.category_choice import rename_segments
from refine.coco_format.instances import InstanceAnnotation, Outline
from refine.coco_format.layout import DatasetFiles
from refine.coco_format.png import decode_segment_png
from refine.coco_format.storage import Storage
from refine.errors import RefineError
from refine.ops.arrays import find_label_runs, find_run_boxes
from refine.ops.outlines import decode_mask, rasterize_polygons, tight_crop
from refine.types import CodedMask, MaskCrop, Segment


@dataclass(frozen=True, slots=True, eq=False)
class SegmentRuns:
    """A segment map, row by row in runs that end with their row.

    Attributes:
        shape: ``(height, width)``.
        places: ``[R]`` int64: 0 is void, ``k + 1`` is segment ``k`` of the annotation.
        lengths: ``[R]`` int64 pixels.
    """

    shape: tuple[int, int]
    places: np.ndarray
    lengths: np.ndarray

    def paint(self, values: np.ndarray) -> np.ndarray:
        """The map with ``values[place]`` at every pixel: ``[height, width]`` of their dtype."""
        return np.repeat(values[self.places], self.lengths).reshape(self.shape)

    def find_crops(self, places: Sequence[int]) -> list[MaskCrop]:
        """The tight masks of the segments at these places (``k + 1`` for segment ``k``)."""
        boxes = find_run_boxes(self.places, self.lengths, self.shape)
        painted = self.paint(np.arange(len(boxes), dtype=np.min_scalar_type(len(boxes))))
        crops = []
        for place in places:
            top, left, bottom, right = boxes[place].tolist()
            crops.append(MaskCrop(y=top, x=left, mask=painted[top:bottom, left:right] == place))
        return crops


def find_runs(ids: np.ndarray, segments: Sequence[Segment], *, source: str) -> SegmentRuns:
    """Match a PNG's ``[H, W]`` int32 ids (0 is void) with the segments that the JSON lists for it.

    Raises:
        RefineError: An id of the PNG is not in the JSON, or the reverse.
    """
    values, lengths = find_label_runs(ids)
    listed = np.array([0, *(s.id for s in segments)], dtype=np.int64)
    order = np.argsort(listed)
    places = order[np.searchsorted(listed, values, sorter=order).clip(max=len(order) - 1)]
    unknown = values[listed[places] != values]
    if len(unknown):
        raise RefineError(
            f"{source}: segment id {unknown[0]} is not in the JSON; add it to segments_info "
            "or paint it 0 (void)"
        )
    absent = np.setdiff1d(listed[1:], values)
    if len(absent):
        raise RefineError(
            f"{source}: segment id {absent[0]} of the JSON has no pixel; remove it from "
            "segments_info or paint it"
        )
    return SegmentRuns((ids.shape[0], ids.shape[1]), places, lengths)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageRow:
    """The annotations of one image in the files' order; ``instances`` is None without their JSON.

    ``source`` is the file name of the panoptic JSON, which states ``size`` as ``(height, width)``.
    ``renamed`` are new ids of pixels in the PNG (:mod:`refine.coco_format.category_choice`).
    """

    source: str
    image_id: int
    image_name: str
    png_name: str
    size: tuple[int, int]
    segments: tuple[Segment, ...]
    instances: tuple[InstanceAnnotation, ...] | None
    renamed: dict[int, int] = field(default_factory=dict)

    def read_runs(self, pngs: Storage) -> SegmentRuns:
        """Read the segment map; a RefineError if the PNG is damaged or does not fit the JSON."""
        label = f"{pngs.label}/{self.png_name}"
        ids = decode_segment_png(pngs.read(self.png_name), source=label)
        self.check_size(ids, label)
        return find_runs(rename_segments(ids, self.renamed), self.segments, source=label)

    def check_size(self, pixels: np.ndarray, label: str) -> None:
        """Raise a RefineError unless the file's ``[H, W, ...]`` pixels have the JSON's size."""
        if pixels.shape[:2] != self.size:
            raise RefineError(
                f"{label}: {pixels.shape[1]} x {pixels.shape[0]} pixels, but {self.source} says "
                f"{self.size[1]} x {self.size[0]}; fix one of them"
            )


def read_row(files: DatasetFiles, k: int) -> ImageRow:
    """Image ``k`` of the panoptic JSON; a RefineError if a mask has another size than it."""
    annotations = files.annotations
    height, width = annotations.sizes[k].tolist()
    image_id = int(annotations.image_ids[k])
    instances = None
    if files.instances is not None:
        instances = files.instances.of_image(image_id)
        for mask in (a.outline for a in instances if isinstance(a.outline, CodedMask)):
            if (mask.height, mask.width) != (height, width):
                raise RefineError(
                    f"{files.instances.source}: image {image_id}: a mask of {mask.width} x "
                    f"{mask.height} pixels, the image has {width} x {height}; fix the mask"
                )
    return ImageRow(
        source=annotations.source,
        image_id=image_id,
        image_name=str(annotations.image_names[k]),
        png_name=str(annotations.file_names[k]),
        size=(height, width),
        segments=annotations.segments(k),
        instances=instances,
        renamed=annotations.renamed(k),
    )


def original_mask(outline: Outline, size: tuple[int, int]) -> MaskCrop | None:
    """The tight crop of an outline in an image of ``size`` (height, width); None if it is empty."""
    if isinstance(outline, CodedMask):
        return tight_crop(decode_mask(outline).mask)
    return rasterize_polygons(outline, size)
