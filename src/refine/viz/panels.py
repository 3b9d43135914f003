"""Panels of a picture: enlarged to a readable size, captioned, side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from refine.viz.palette import Color

WHITE: Color = (255, 255, 255)
_CAPTION_PX = 24
_GAP_PX = 4
_MIN_PANEL_PX = 384
_MAX_PANEL_PX = 4096


def blend(below: np.ndarray, above: np.ndarray, opacity: float | np.ndarray) -> np.ndarray:
    """Mix two pictures.

    Args:
        below: ``[..., 3]`` of any dtype, in 0..255.
        above: Broadcasts with ``below``.
        opacity: Of ``above``, in [0, 1]; one, or one a pixel (``[..., 1]``).

    Returns:
        uint8.
    """
    mixed: np.ndarray = below * (1 - opacity) + above * opacity
    return mixed.astype(np.uint8)


def find_enlargement(height: int, width: int) -> int:
    """The whole number that makes a panel at least 384 pixels wide."""
    wanted = -(-_MIN_PANEL_PX // width)
    # a sliver of an image must not become a picture of gigabytes
    return max(1, min(wanted, _MAX_PANEL_PX // height))


def enlarge_image(image: np.ndarray, factor: int) -> np.ndarray:
    """A ``[H, W, 3]`` uint8 picture ``factor`` times as large; smooth."""
    height, width = image.shape[:2]
    size = (width * factor, height * factor)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def enlarge_map(pixels: np.ndarray, factor: int) -> np.ndarray:
    """``[H, W, ...]`` ``factor`` times as large; every pixel becomes a block."""
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def find_fit(height: int, width: int, *, max_side_px: int) -> tuple[int, int]:
    """Height and width at which a panel is readable and no side longer than ``max_side_px``.

    Small panels are enlarged by a whole number as by :func:`find_enlargement`, large ones shrink.
    """
    longest = max(height, width)
    if longest <= max_side_px:
        factor = min(find_enlargement(height, width), max_side_px // longest)
        return height * factor, width * factor
    scale = max_side_px / longest
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_map(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``[H, W]`` map of ids at another ``(height, width)``: the id below each new centre."""
    rows, columns = (
        ((np.arange(new) + 0.5) * (old / new)).astype(int)
        for old, new in zip(pixels.shape[:2], size, strict=True)
    )
    resized: np.ndarray = pixels[rows][:, columns]
    return resized


def add_caption(panel: np.ndarray, words: Mapping[str, Color]) -> np.ndarray:
    """The ``[H, W, 3]`` panel below a dark band with words in their colours."""
    band = Image.new("RGB", (panel.shape[1], _CAPTION_PX))
    draw, font = ImageDraw.Draw(band), ImageFont.load_default(size=14)
    x = 6.0
    for word, color in words.items():
        draw.text((x, _CAPTION_PX / 2), word, font=font, fill=color, anchor="lm")
        x += draw.textlength(word, font=font) + 14
    return np.concatenate([np.asarray(band), panel])


def join_panels(panels: Sequence[np.ndarray], *, axis: int) -> np.ndarray:
    """Panels with a dark gap between them: ``axis`` 0 one below the other, 1 side by side."""
    gap_shape = list(panels[0].shape)
    gap_shape[axis] = _GAP_PX
    parts = [part for panel in panels for part in (np.zeros(gap_shape, np.uint8), panel)]
    return np.concatenate(parts[1:], axis=axis)


def pad_to_one_size(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """``[H, W, 3]`` pictures, each with dark margins right and below up to the largest of them."""
    height, width = (max(p.shape[axis] for p in pictures) for axis in (0, 1))
    margins = [((0, height - p.shape[0]), (0, width - p.shape[1]), (0, 0)) for p in pictures]
    return [np.pad(p, margin) for p, margin in zip(pictures, margins, strict=True)]
