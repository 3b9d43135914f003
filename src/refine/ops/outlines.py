"""Outlines of instances: polygons and COCO's run lengths, to masks and back (pycocotools)."""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from refine.ops.arrays import find_label_runs
from refine.ops.mask_runs import unpack_masks
from refine.types import CodedMask, MaskCrop


def encode_mask(crop: MaskCrop) -> CodedMask:
    """Pack a crop; exact, and typically a hundredth of its size."""
    height, width = crop.mask.shape
    packed = coco_mask.encode(np.asfortranarray(crop.mask, dtype=np.uint8))
    return CodedMask(height, width, packed["counts"], y=crop.y, x=crop.x)


def decode_mask(coded: CodedMask) -> MaskCrop:
    """The crop that :func:`encode_mask` packed; its mask is C-contiguous."""
    mask = _decode(coded.counts, coded.height, coded.width)
    return MaskCrop(y=coded.y, x=coded.x, mask=np.ascontiguousarray(mask))


def _decode(counts: bytes, height: int, width: int) -> np.ndarray:
    """The bool mask as COCO has it in memory: column by column."""
    mask: np.ndarray = coco_mask.decode({"size": [height, width], "counts": counts})
    return mask.view(np.bool_)


def compress_runs(counts: Sequence[int] | str, *, height: int, width: int) -> CodedMask:
    """Pack the run lengths of a JSON file, plain numbers or COCO's string.

    Raises:
        ValueError: The runs do not add up to ``height * width`` pixels, or make no sense.
    """
    if isinstance(counts, str):
        mask = CodedMask(height, width, counts.encode("ascii"))
        unpack_masks([mask])
        return mask
    if any(type(number) is not int for number in (height, width, *counts)):
        raise ValueError("sizes and run lengths have to be integers")
    if sum(counts) != height * width or min(counts, default=0) < 0:
        raise ValueError("the runs do not cover the image")
    plain = {"size": [height, width], "counts": list(counts)}
    return CodedMask(height, width, coco_mask.frPyObjects(plain, height, width)["counts"])


def code_polygons(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> CodedMask:
    """The pixels of an image of ``size`` (height, width) that COCO's rule gives to a union.

    A polygon is x, y, x, y, ... of at least three corners, in pixels, and may leave the image.
    """
    height, width = size
    if not polygons:
        return compress_runs([height * width], height=height, width=width)
    parts = coco_mask.frPyObjects([*polygons], height, width)
    return CodedMask(height, width, coco_mask.merge(parts)["counts"])


def encode_segments(segment_map: np.ndarray, ids: Sequence[int]) -> list[CodedMask]:
    """These segments of a ``[H, W]`` map as COCO's run lengths, from the runs of the whole map."""
    height, width = segment_map.shape
    values, lengths = find_label_runs(np.ascontiguousarray(segment_map.T))
    stops = np.cumsum(lengths)
    coded = []
    for k in ids:
        mine = values == k
        first, last = (stops - lengths)[mine], stops[mine]
        is_gap = first[1:] != last[:-1]  # else the run goes on in the next column
        first, last = first[np.r_[True, is_gap]], last[np.r_[is_gap, True]]
        counts = np.diff(np.stack([first, last], axis=1).ravel(), prepend=0, append=height * width)
        coded.append(compress_runs(counts.tolist(), height=height, width=width))
    return coded


def find_mask_box(coded: CodedMask) -> tuple[float, float, float, float] | None:
    """The xyxy bounds of a mask's pixels within its crop, without decoding it; None if empty."""
    packed = {"size": [coded.height, coded.width], "counts": coded.counts}
    x, y, width, height = coco_mask.toBbox(packed).tolist()
    return (x, y, x + width, y + height) if width and height else None


def tight_crop(mask: np.ndarray, *, y: int = 0, x: int = 0) -> MaskCrop | None:
    """The smallest crop (a view) that holds every pixel of a ``[H, W]`` bool mask; None if empty.

    The mask's first pixel is at row ``y`` and column ``x`` of the full image.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].any(axis=0))
    left, right = int(columns[0]), int(columns[-1]) + 1
    return MaskCrop(y=y + top, x=x + left, mask=mask[top:bottom, left:right])


def rasterize_polygons(polygons: Sequence[np.ndarray], size: tuple[int, int]) -> MaskCrop | None:
    """The tight crop of polygons' union by COCO's rule; None if no pixel of the image is covered.

    Polygons are ``[n, 2]`` (x, y) in pixels, n >= 3, and may leave the image.
    """
    if not polygons:
        return None
    corners = np.concatenate(polygons)
    # a pixel more on each side: COCO's rule rounds, and must not meet the border of the window
    low = np.clip(np.floor(corners.min(axis=0)) - 1, 0, size[::-1]).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, size[::-1]).astype(int)
    (left, top), (right, bottom) = low.tolist(), high.tolist()
    if right <= left or bottom <= top:
        return None
    height, width = bottom - top, right - left
    # COCO snaps to fifths of a pixel: 0.1, 0.3, ... are ties, and fall otherwise at other offsets
    shifted = [
        np.where(low > 0, np.floor(p * 5 + 0.5) / 5 - low, p).ravel().tolist()
        for p in (polygon.astype(np.float64) for polygon in polygons)
    ]
    runs = coco_mask.merge(coco_mask.frPyObjects(shifted, height, width))
    return tight_crop(_decode(runs["counts"], height, width), y=top, x=left)
