"""What the files say of one image: its annotations, and how to read its segment map."""

from dataclasses import dataclass, field

import numpy as np

from refine.coco_format.category_choice import rename_segments
from refine.coco_format.instances import InstanceAnnotation, Outline
from refine.coco_format.layout import DatasetFiles
from refine.coco_format.mask_results import MaskResults
from refine.coco_format.png import decode_segment_png
from refine.coco_format.segment_runs import SegmentRuns, find_runs
from refine.coco_format.storage import Storage
from refine.data.images import decode_image
from refine.errors import RefineError, Report, refuse
from refine.ops.mask_runs import paint_runs
from refine.ops.outlines import decode_mask, rasterize_polygons, tight_crop
from refine.types import IGNORE_INDEX, CodedMask, MaskCrop, Segment


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageRow:
    """The annotations of one image in the files' order; ``instances`` is None without their JSON.

    ``size`` is ``(height, width)``; ``renamed`` are new ids of pixels in the PNG
    (:mod:`refine.coco_format.category_choice`).
    """

    image_id: int
    image_name: str
    png_name: str
    size: tuple[int, int]
    segments: tuple[Segment, ...]
    instances: tuple[InstanceAnnotation, ...] | None
    renamed: dict[int, int] = field(default_factory=dict)

    def read_runs(self, pngs: Storage, *, report: Report = refuse) -> SegmentRuns:
        """Read the segment map; a RefineError if the PNG is damaged or does not fit the JSON.

        ``report`` takes contradictions between segments (:func:`find_runs`).
        """
        label = f"{pngs.label}/{self.png_name}"
        ids = decode_segment_png(pngs.read(self.png_name), source=label, size=self.size)
        ids = rename_segments(ids, self.renamed)
        return find_runs(ids, self.segments, source=label, report=report)

    def read_image(self, images: Storage) -> np.ndarray:
        """The ``[H, W, 3]`` uint8 RGB pixels; a RefineError if damaged or of another size."""
        label = f"{images.label}/{self.image_name}"
        return decode_image(images.read(self.image_name), source=label, size=self.size)


def read_row(files: DatasetFiles, k: int) -> ImageRow:
    """Image ``k`` of the panoptic JSON."""
    annotations = files.annotations
    height, width = annotations.sizes[k].tolist()
    image_id = int(annotations.image_ids[k])
    instances = None
    if files.instances is not None:
        instances = files.instances.of_image(image_id)
    return ImageRow(
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


def paint_stuff(stuff: MaskResults) -> list[np.ndarray]:
    """``[H, W]`` uint8 categories of each image's masks, 255 for void.

    Masks of one category are one; a :class:`RefineError` if those of two overlap. Pixels are column
    by column in memory, as in COCO's run lengths.
    """
    areas = stuff.images.sizes.prod(axis=1)
    ends = np.cumsum(areas)
    runs, counts = stuff.runs, np.diff(stuff.runs.offsets)
    # all images make one line of pixels
    shifts = np.repeat(np.repeat(ends - areas, np.diff(stuff.offsets)), counts)
    starts, stops = runs.starts + shifts, runs.stops + shifts
    order = np.argsort(starts, kind="stable")
    categories = np.repeat(stuff.categories.astype(np.uint8), counts)[order]
    starts, stops = starts[order], stops[order]
    reach = np.maximum.accumulate(stops)
    longest = np.maximum.accumulate(np.where(stops == reach, np.arange(len(order)), 0))
    is_shared = starts[1:] < reach[:-1]
    wrong = starts[1:][is_shared & (categories[1:] != categories[longest[:-1]])]
    if len(wrong):
        image_id = stuff.images.ids[np.searchsorted(ends, wrong[0], side="right")]
        raise RefineError(
            f"{stuff.source}: image {image_id}: masks of two stuff categories overlap; "
            "give each pixel one category"
        )
    starts[1:] = np.maximum(starts[1:], reach[:-1])
    total = int(areas.sum())
    painted = paint_runs(starts, reach, categories, (1, total), background=IGNORE_INDEX)[0]
    maps = zip(np.split(painted, ends[:-1]), stuff.images.sizes.tolist(), strict=True)
    return [pixels.reshape(width, height).T for pixels, (height, width) in maps]
