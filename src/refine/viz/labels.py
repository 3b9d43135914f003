"""Words on pictures that do not pile up."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GRID = 64
_PADDING_PX = 2
Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Label:
    """A text and where its middle should be.

    Attributes:
        text: One line.
        y: Row.
        x: Column.
        area: Pixels of the segment that it names; a label larger than that is left out.
    """

    text: str
    y: int
    x: int
    area: int


def find_inner_point(mask: np.ndarray) -> tuple[int, int]:
    """Row and column of a pixel deep inside a mask, for its label.

    The mask is thinned out to a grid of at most 64 cells a side and eroded until the next step
    would leave nothing.

    Args:
        mask: ``[H, W]`` bool with at least one pixel.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    crop = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    step = -(-max(crop.shape) // _GRID)
    core = crop[step // 2 :: step, step // 2 :: step]
    if not core.any():
        step, core = 1, crop
    while (eroded := _erode(core)).any():
        core = eroded
    cells = np.argwhere(core)
    nearest = np.abs(cells - cells.mean(axis=0)).sum(axis=1).argmin()
    row, column = (cells[nearest] * step + step // 2).tolist()
    return top + row, left + column


def draw_labels(image: np.ndarray, labels: Sequence[Label]) -> np.ndarray:
    """Write labels in white on dark boxes; earlier ones go first.

    A label that would cover another moves up or down by a line or two, else it is left out; so is
    one larger than its segment.

    Args:
        image: ``[H, W, 3]`` uint8.
        labels: In the order of their importance.

    Returns:
        A new ``[H, W, 3]`` uint8.
    """
    canvas = Image.fromarray(image)
    font = ImageFont.load_default(size=_font_size(image))
    draw = ImageDraw.Draw(canvas, "RGBA")
    placed: list[Box] = []
    for label in labels:
        extent = draw.textbbox((0, 0), label.text, font=font)
        box = _find_place(label, extent, image.shape[:2], placed)
        if box is None:
            continue
        placed.append(box)
        draw.rectangle(box, fill=(0, 0, 0, 150))
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        draw.text(middle, label.text, font=font, fill=(255, 255, 255), anchor="mm")
    return np.array(canvas)


def _erode(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    vertical = padded[2:, 1:-1] & padded[:-2, 1:-1]
    horizontal = padded[1:-1, 2:] & padded[1:-1, :-2]
    eroded: np.ndarray = mask & vertical & horizontal
    return eroded


def _font_size(image: np.ndarray) -> int:
    return int(np.clip(min(image.shape[:2]) / 36, 11, 24))


def _find_place(
    label: Label,
    extent: tuple[float, float, float, float],
    size: tuple[int, int],
    placed: list[Box],
) -> Box | None:
    width = int(extent[2] - extent[0]) + 2 * _PADDING_PX
    height = int(extent[3] - extent[1]) + 2 * _PADDING_PX
    if height > size[0] or width > size[1] or height * width > label.area:
        return None
    left = int(np.clip(label.x - width // 2, 0, size[1] - width))
    for lines in (0, -1, 1, -2, 2):
        top = label.y - height // 2 + lines * (height + 1)
        top = int(np.clip(top, 0, size[0] - height))
        box = (left, top, left + width, top + height)
        if not any(_overlap(box, other) for other in placed):
            return box
    return None


def _overlap(one: Box, other: Box) -> bool:
    across = one[0] <= other[2] and other[0] <= one[2]
    return across and one[1] <= other[3] and other[1] <= one[3]
