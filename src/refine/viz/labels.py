"""Names of segments, written on pictures without piling up."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from refine.categories import CategoryTable
from refine.metrics.functional import Panoptic
from refine.ops.arrays import find_label_boxes

_GRID = 64
_PADDING_PX = 2
Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Label:
    """A line of text around a pixel; left out if it is larger than the ``area`` of its segment."""

    text: str
    y: int
    x: int
    area: int


def segment_labels(panoptic: Panoptic, categories: CategoryTable) -> list[Label]:
    """One label per visible segment, by descending area: its category, and a score below 1."""
    labels, boxes = [], find_label_boxes(panoptic.segment_map)
    for segment in panoptic.segments:
        if box := boxes.get(segment.id):
            top, left, bottom, right = box
            mask = panoptic.segment_map[top:bottom, left:right] == segment.id
            score = f" {segment.score:.2f}" if segment.score < 1 else ""
            text = categories[segment.category].name + (" (crowd)" if segment.is_crowd else score)
            y, x = find_inner_point(mask)
            labels.append(Label(text, top + y, left + x, int(np.count_nonzero(mask))))
    return sorted(labels, key=lambda label: -label.area)


def find_inner_point(mask: np.ndarray) -> tuple[int, int]:
    """Row and column of a pixel deep inside a ``[H, W]`` bool mask that has at least one.

    The mask is sampled on a grid of at most 64 cells per side.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    crop = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    step = -(-max(crop.shape) // _GRID)
    grid = crop[step // 2 :: step, step // 2 :: step]
    if not grid.any():
        step, grid = 1, crop
    depth = ndimage.distance_transform_cdt(np.pad(grid, 1), "taxicab")[1:-1, 1:-1]
    cells = np.argwhere(depth == depth.max())
    nearest = np.abs(cells - cells.mean(axis=0)).sum(axis=1).argmin()
    row, column = (cells[nearest] * step + step // 2).tolist()
    return top + row, left + column


def draw_labels(image: np.ndarray, labels: Sequence[Label]) -> np.ndarray:
    """A copy of the image with labels in white on dark boxes, the most important ones first.

    A label that would cover an earlier one moves up or down by a line or two, or is left out.
    """
    canvas = Image.fromarray(image)
    shorter = min(image.shape[:2])
    # 24 px are enough up to 1440 px; of photographs of many megapixels a sixtieth can be read
    font = ImageFont.load_default(size=int(np.clip(shorter / 36, 11, max(24, shorter / 60))))
    draw = ImageDraw.Draw(canvas, "RGBA")
    placed: list[Box] = []
    for label in labels:
        left, top, right, bottom = draw.textbbox((0, 0), label.text, font=font)
        extent = int(bottom - top) + 2 * _PADDING_PX, int(right - left) + 2 * _PADDING_PX
        box = _find_place(label, extent, image.shape[:2], placed)
        if box is None:
            continue
        placed.append(box)
        draw.rectangle(box, fill=(0, 0, 0, 150))
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        draw.text(middle, label.text, font=font, fill=(255, 255, 255), anchor="mm")
    return np.array(canvas)


def _find_place(
    label: Label, extent: tuple[int, int], size: tuple[int, int], placed: Sequence[Box]
) -> Box | None:
    height, width = extent
    if height > size[0] or width > size[1] or height * width > label.area:
        return None
    left = int(np.clip(label.x - width // 2, 0, size[1] - width))
    for lines in (0, -1, 1, -2, 2):
        top = label.y - height // 2 + lines * (height + 1)
        top = int(np.clip(top, 0, size[0] - height))
        box = (left, top, left + width, top + height)
        if not any(
            all(box[k] <= other[k + 2] and other[k] <= box[k + 2] for k in (0, 1))
            for other in placed
        ):
            return box
    return None
