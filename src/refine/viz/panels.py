"""Panels of a picture: resized, blended, captioned, joined."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from refine.types import Sample
from refine.viz.palette import Color

WHITE: Color = (255, 255, 255)
_CAPTION_PX = 24
_GAP_PX = 4
_MIN_WIDTH_PX = 384


def blend(below: np.ndarray, above: np.ndarray, opacity: float | np.ndarray) -> np.ndarray:
    """Mix two ``[..., 3]`` arrays of 0..255 to uint8; ``opacity`` is the weight of ``above``."""
    mixed: np.ndarray = below * (1 - opacity) + above * opacity
    return mixed.astype(np.uint8)


def fit_size(height: int, width: int, *, max_side_px: int = 4096) -> tuple[int, int]:
    """Height and width at which a panel can be read.

    Narrow panels are enlarged by a whole number, up to a width of at least 384 pixels; panels with
    a side longer than ``max_side_px`` shrink. The limit keeps slivers from becoming gigabytes.
    """
    longest = max(height, width)
    if longest <= max_side_px:
        factor = min(-(-_MIN_WIDTH_PX // width), max_side_px // longest)
        return height * factor, width * factor
    scale = max_side_px / longest
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image to ``(height, width)``; bicubic."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))


def original_image(sample: Sample) -> np.ndarray:
    """The image of a sample at original size."""
    return resize_image(sample.image.permute(1, 2, 0).cpu().numpy(), sample.original_size)


def resize_map(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a ``[H, W]`` map of ids to ``(height, width)``: the id below each new pixel centre."""
    rows, columns = (
        ((np.arange(new) + 0.5) * (old / new)).astype(int)
        for old, new in zip(pixels.shape, size, strict=True)
    )
    return pixels[np.ix_(rows, columns)]


def to_grey(image: np.ndarray, brightness: float = 1.0) -> np.ndarray:
    """An image without its colours, its values scaled by ``brightness`` in [0, 1]."""
    grey: np.ndarray = (image.mean(axis=2, keepdims=True) * brightness).astype(np.uint8)
    return grey.repeat(3, axis=2)


def add_caption(panel: np.ndarray, words: Mapping[str, Color]) -> np.ndarray:
    """Put a dark band above a panel, with words in their colours."""
    band = Image.new("RGB", (panel.shape[1], _CAPTION_PX))
    draw, font = ImageDraw.Draw(band), ImageFont.load_default(size=14)
    x = 6.0
    for word, color in words.items():
        draw.text((x, _CAPTION_PX / 2), word, font=font, fill=color, anchor="lm")
        x += draw.textlength(word, font=font) + 14
    return np.concatenate([np.asarray(band), panel])


def join_panels(panels: Sequence[np.ndarray], *, axis: int) -> np.ndarray:
    """Join panels with a dark gap: one below the other (``axis=0``) or side by side (1)."""
    gap_shape = list(panels[0].shape)
    gap_shape[axis] = _GAP_PX
    parts = [part for panel in panels for part in (np.zeros(gap_shape, np.uint8), panel)]
    return np.concatenate(parts[1:], axis=axis)


def pad_to_one_size(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Pad images with black, right and below, to the largest height and width among them."""
    largest = np.max([image.shape for image in images], axis=0)
    return [np.pad(i, [(0, m) for m in largest - i.shape]) for i in images]
