"""Masks between a box's own grid and the image's pixels.

Pasting follows detectron2's convention: mask value ``(i, j)`` of an ``m x m`` mask sits at the
centre of cell ``(i, j)`` of the ``m x m`` grid on the box, image values at pixel centres, bilinear
between, zero outside the mask (``grid_sample(align_corners=False)``). Both directions are separable
in x and y, so each costs two small matrix products and no image-sized canvas.
"""

import numpy as np

from refine.types import MaskCrop


def paste_masks(
    probabilities: np.ndarray, boxes: np.ndarray, size: tuple[int, int], *, threshold: float
) -> list[MaskCrop]:
    """Resample masks from their boxes to image pixels and binarise them.

    Outside its box a mask still fades to zero over half a cell, always below 1/2; that halo is cut.

    Args:
        probabilities: ``[N, m, m]`` float32 in [0, 1].
        boxes: ``[N, 4]`` xyxy pixels of the image; may reach beyond it.
        size: ``(height, width)`` of the image.
        threshold: Lowest probability at which a pixel belongs to a mask.

    Returns:
        One crop per box, clamped to the image; empty for a box without area or outside the image.

    Raises:
        ValueError: Boxes are not finite.
    """
    corners = _finite_corners(boxes)
    spans = _touched_pixels(corners, size)
    crops = []
    for probability, (x0, y0, x1, y1), (left, top, right, bottom) in zip(
        probabilities, corners.tolist(), spans.tolist(), strict=True
    ):
        rows = _interpolation_weights(y0, y1, side=len(probability), first=top, last=bottom)
        columns = _interpolation_weights(x0, x1, side=len(probability), first=left, last=right)
        crops.append(MaskCrop(top, left, rows @ probability @ columns.T >= threshold))
    return crops


def _finite_corners(boxes: np.ndarray) -> np.ndarray:
    """``[N, 4]`` float64, so that large coordinates keep their fractions."""
    if not np.isfinite(boxes).all():
        raise ValueError("boxes must be finite")
    return np.asarray(boxes, np.float64).reshape(-1, 4)


def _touched_pixels(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``[N, 4]`` int: first column and row, last column and row + 1; empty without area."""
    height, width = size
    outer = np.concatenate([np.floor(corners[:, :2]), np.ceil(corners[:, 2:])], axis=1)
    spans: np.ndarray = np.clip(outer, 0, [width, height, width, height]).astype(np.int64)
    flat = (corners[:, 2:] <= corners[:, :2]).any(axis=1)
    spans[flat, 2:] = spans[flat, :2]
    return spans


def _interpolation_weights(
    start: float, stop: float, *, side: int, first: int, last: int
) -> np.ndarray:
    """``[last - first, side]``: share of each mask cell in the value at each pixel centre."""
    if last <= first:
        return np.zeros((0, side), np.float32)
    cells = (np.arange(first, last) + 0.5 - start) * (side / (stop - start)) - 0.5
    distances = np.abs(cells.astype(np.float32)[:, None] - np.arange(side, dtype=np.float32))
    weights: np.ndarray = np.maximum(np.float32(1) - distances, 0)
    return weights
