"""The annotations of one image, a row of the panoptic JSON, checked against each other."""

from collections.abc import Sequence

import numpy as np

from refine.coco_format.instances import InstanceAnnotation, InstanceAnnotations
from refine.coco_format.png import decode_segment_png
from refine.coco_format.storage import Storage
from refine.data.segment_runs import SegmentRuns, find_runs
from refine.errors import RefineError
from refine.ops.outlines import decode_mask, rasterize_polygons, tight_crop
from refine.types import CodedMask, MaskCrop, Segment


def read_runs(
    pngs: Storage,
    name: str,
    *,
    segments: Sequence[Segment],
    size: tuple[int, int],
    json_name: str,
) -> SegmentRuns:
    """Read a segment map.

    Args:
        pngs: Where it is.
        name: Its file.
        segments: That the JSON lists for it.
        size: ``(height, width)`` as the JSON states it.
        json_name: What messages call the JSON.

    Raises:
        RefineError: The file is missing or damaged, or does not fit the JSON.
    """
    source = f"{pngs.label}/{name}"
    ids = decode_segment_png(pngs.read(name), source=source)
    check_size(ids, size, source=source, json_name=json_name)
    return find_runs(ids, segments, source=source)


def check_size(pixels: np.ndarray, size: tuple[int, int], *, source: str, json_name: str) -> None:
    """Compare what a file holds with what the JSON says of it.

    Args:
        pixels: ``[H, W, ...]``.
        size: ``(height, width)`` as the JSON states it.
        source: What messages call the file.
        json_name: What messages call the JSON.

    Raises:
        RefineError: They differ.
    """
    if pixels.shape[:2] != size:
        raise RefineError(
            f"{source}: {pixels.shape[1]} x {pixels.shape[0]} pixels, but {json_name} says "
            f"{size[1]} x {size[0]}; mend one of them"
        )


def instances_of_image(
    instances: InstanceAnnotations, image_id: int, size: tuple[int, int]
) -> tuple[InstanceAnnotation, ...]:
    """The instance annotations of an image, in the file's order.

    Args:
        instances: Of the split.
        image_id: Id in the JSON.
        size: ``(height, width)`` of the image.

    Raises:
        RefineError: A mask has another size than the image.
    """
    found = instances.of_image(image_id)
    for outline in (a.outline for a in found):
        if isinstance(outline, CodedMask) and (outline.height, outline.width) != size:
            raise RefineError(
                f"{instances.source}: image {image_id}: a mask of {outline.width} x "
                f"{outline.height} pixels, the image has {size[1]} x {size[0]}; mend the mask"
            )
    return found


def original_mask(
    outline: tuple[np.ndarray, ...] | CodedMask, size: tuple[int, int]
) -> MaskCrop | None:
    """An annotation's outline as pixels of the original image.

    Args:
        outline: Polygons or run lengths.
        size: ``(height, width)`` of the image.

    Returns:
        The tight crop, or None if no pixel is covered.
    """
    if isinstance(outline, CodedMask):
        return tight_crop(decode_mask(outline).mask)
    return rasterize_polygons(outline, size)
