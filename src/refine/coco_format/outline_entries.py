"""Outlines in the entries of JSON files: polygons and run lengths, checked and reported."""

from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np

from refine.coco_format.json_entries import Entries, shortened
from refine.ops.mask_runs import MaskRuns, unpack_masks
from refine.ops.outlines import code_polygons, compress_runs
from refine.types import CodedMask

_MIN_NUMBERS = 6  # in a polygon: three corners
_FARTHEST_PX = 2**24  # of a coordinate: float32 still has whole pixels there
_MASKS_A_PASS = 128  # whose numbers stay in the cache
_LONGEST = 1000  # outline, in widths plus heights of the image: rasterising takes memory


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outlines:
    """The outlines of N entries.

    Attributes:
        polygons: Each x, y, x, y, ... in original pixels.
        offsets: N + 1 numbers: entry k owns polygons ``offsets[k] .. offsets[k + 1] - 1``.
        masks: Run lengths; whether they make sense has not been looked at.
        mask_rows: ``[N]`` int64 position in ``masks``, -1 for entries with polygons.
        num_short: Number of polygons left out for want of corners.
    """

    polygons: list[list[float]]
    offsets: list[int]
    masks: list[CodedMask]
    mask_rows: np.ndarray
    num_short: int


def read_outlines(entries: Entries, sizes: np.ndarray, key: str) -> Outlines:
    """The outlines under ``key``; a malformed one is reported.

    ``sizes`` are the ``[n, 2]`` (height, width) of the entries' images.
    """
    polygons: list[list[float]] = []
    offsets, num_short = [0], 0
    masks: list[CodedMask] = []
    mask_rows = np.full(len(entries), -1, dtype=np.int64)
    outlines = entries.column(key, list, dict)
    for k, (outline, (height, width)) in enumerate(zip(outlines, sizes.tolist(), strict=True)):
        if isinstance(outline, list) and outline and type(outline[0]) in (int, float):
            outline = [outline]  # some tools write a single polygon so
        if isinstance(outline, dict):
            mask = _read_mask(entries, k, outline, height, width, key)
            if mask is not None:
                mask_rows[k] = len(masks)
                masks.append(mask)
        elif _check_polygons(entries, k, outline, key, limit=_LONGEST * (height + width)):
            usable = [polygon for polygon in outline if len(polygon) >= _MIN_NUMBERS]
            num_short += len(outline) - len(usable)
            polygons += usable
        offsets.append(len(polygons))
    return Outlines(
        polygons=polygons, offsets=offsets, masks=masks, mask_rows=mask_rows, num_short=num_short
    )


def unpack_outlines(
    entries: Entries, places: list[int], masks: list[CodedMask], key: str
) -> list[MaskRuns]:
    """The runs of masks, which are those of the entries at ``places``, some masks at a time.

    Strings that make no sense are reported, and have no runs.
    """
    runs = []
    for start in range(0, len(masks), _MASKS_A_PASS):
        part = slice(start, start + _MASKS_A_PASS)
        try:
            runs.append(unpack_masks(masks[part]))
        except ValueError as error:
            if len(masks) == 1:
                _reject_runs(entries, places[0], key, error)
            else:
                for k, mask in zip(places[part], masks[part], strict=True):
                    runs += unpack_outlines(entries, [k], [mask], key)
    return runs


def read_mask_runs(entries: Entries, sizes: np.ndarray, key: str = "segmentation") -> MaskRuns:
    """The pixels of the outlines under ``key``, a mask for each entry.

    ``sizes`` are as of :func:`read_outlines`. A malformed outline is reported, which has to end it.
    """
    outlines = read_outlines(entries, sizes, key)
    masks = outlines.masks
    if len(masks) < len(entries):
        masks = [
            masks[row] if row >= 0 else _code_polygons(outlines, k, sizes)
            for k, row in enumerate(outlines.mask_rows.tolist())
        ]
    return MaskRuns.join(unpack_outlines(entries, [*range(len(masks))], masks, key))


def _code_polygons(outlines: Outlines, k: int, sizes: np.ndarray) -> CodedMask:
    height, width = sizes[k].tolist()
    polygons = outlines.polygons[outlines.offsets[k] : outlines.offsets[k + 1]]
    return code_polygons(polygons, (height, width))


def _read_mask(
    entries: Entries, k: int, outline: dict[str, Any], height: int, width: int, key: str
) -> CodedMask | None:
    size = outline.get("size")
    if size != [height, width]:
        found = f"a mask of size {shortened(size)}, but the image has [{height}, {width}]"
        entries.reject(k, f"{key!r} of another size", f": {key!r} is {found}; fix it")
        return None
    try:
        counts = outline["counts"]
        if isinstance(counts, str):  # which are checked many at a time
            return CodedMask(height, width, counts.encode("ascii"))
        return compress_runs(counts, height=height, width=width)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        _reject_runs(entries, k, key, error)
        return None


def _reject_runs(entries: Entries, k: int, key: str, error: Exception) -> None:
    entries.reject_value(k, key, f"expected COCO's {{size: [h, w], counts}} ({error})")


def _check_polygons(entries: Entries, k: int, outline: list[Any], key: str, *, limit: int) -> bool:
    """Whether an annotation's polygons can be used; if not, why not has been reported."""
    fix, length = "", 0.0  # no outline can be longer
    for polygon in outline:
        if type(polygon) is not list or len(polygon) % 2:
            fix = "give polygons [x, y, x, y, ...]"
        elif not are_coordinates(polygon):
            fix = f"coordinates have to be finite numbers, {_FARTHEST_PX} at most"
        elif polygon:
            length += (max(polygon) - min(polygon)) * len(polygon)
    if not fix and length > limit and sum(map(_measure, outline)) > limit:
        fix = f"more than {limit} pixels long; correct the coordinates"
    if fix:
        entries.reject_value(k, key, fix)
    return not fix


def _measure(polygon: list[float]) -> float:
    """Steps in pixels around a polygon."""
    corners = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    return float(np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1).sum())


def are_coordinates(numbers: list[Any]) -> bool:
    """Whether values of a JSON file are finite numbers, and not too far away."""
    if not numbers or not set(map(type, numbers)) <= {int, float}:
        return not numbers
    if not -_FARTHEST_PX <= min(numbers) <= max(numbers) <= _FARTHEST_PX:
        return False
    return not isnan(sum(numbers))  # which hides from min and max
