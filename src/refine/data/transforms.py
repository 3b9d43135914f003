"""Geometry of an image and of everything that is annotated on it.

One :class:`Geometry` says how pixels move; a function for each kind of thing moves it. Nothing
here is random but :func:`draw_geometry`, whose generator comes from the caller. Positions are
continuous pixels, so image, maps and polygons stay aligned to a fraction of a pixel.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from refine.options import ImageOptions
from refine.types import MaskCrop, View


@dataclass(frozen=True, slots=True)
class Geometry:
    """A resize, then a crop, then perhaps a horizontal flip.

    Attributes:
        source: ``(height, width)`` before.
        resized: ``(height, width)`` after the resize.
        offset: ``(top, left)`` of the crop in the resized image.
        size: ``(height, width)`` of the crop, and so of the result.
        flip: Mirror left and right at the end.
        resize: Kernel of images, ``torch`` or ``pillow``.
    """

    source: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]
    size: tuple[int, int]
    flip: bool
    resize: str = "torch"


def draw_geometry(
    size: tuple[int, int], options: ImageOptions, rng: np.random.Generator
) -> Geometry:
    """A random geometry for training on an image of ``size`` (height, width).

    ``rng`` is consumed equally whatever the options, so that they do not shift each other's draws.
    """
    short, top, left, flip = rng.random(4)
    sides = options.train_short_sides_px
    resized = resized_size(size, sides[int(short * len(sides))], options.max_long_side_px)
    crop = options.crop_px or resized
    height, width = min(crop[0], resized[0]), min(crop[1], resized[1])
    offset = (int(top * (resized[0] - height + 1)), int(left * (resized[1] - width + 1)))
    is_flipped = bool(flip < options.flip_prob)
    return Geometry(size, resized, offset, (height, width), is_flipped, options.resize)


def eval_geometry(size: tuple[int, int], options: ImageOptions) -> Geometry:
    """The geometry of evaluation and prediction: the resize alone."""
    limit = options.eval_max_long_side_px or options.max_long_side_px
    resized = resized_size(size, options.eval_short_side_px, limit)
    return Geometry(size, resized, (0, 0), resized, flip=False, resize=options.resize)


def make_views(image: np.ndarray, options: ImageOptions) -> tuple[View, ...]:
    """What test-time augmentation shows of ``[H, W, 3]`` uint8 pixels; nothing without it.

    All scales, then, if asked for, the same mirrored.
    """
    if not options.has_views:
        return ()
    geometry = eval_geometry((image.shape[0], image.shape[1]), options)
    views = []
    for scale in options.eval_scales:
        height, width = (max(round(side * scale), 1) for side in geometry.resized)
        size = (height, width)
        scaled = replace(geometry, resized=size, size=size)
        views.append(View(transform_image(image, scaled), is_flipped=False))
    mirrored = [View(view.image.flip(-1), is_flipped=True) for view in views]
    return (*views, *(mirrored if options.eval_flip else ()))


def typical_size(sizes: np.ndarray, options: ImageOptions) -> tuple[int, int]:
    """The largest size at which training shows the median of ``[N, 2]`` int (height, width)."""
    height, width = np.median(sizes, axis=0).round().astype(int).tolist()
    side = max(options.train_short_sides_px)
    resized = resized_size((height, width), side, options.max_long_side_px)
    crop = options.crop_px or resized
    return min(crop[0], resized[0]), min(crop[1], resized[1])


def resized_size(size: tuple[int, int], short_px: int, max_long_px: int) -> tuple[int, int]:
    """The size at which the short side is ``short_px``, or less to keep the long side's limit."""
    # two roundings of the long side where its limit holds: the sizes are those of detectron2
    shortest = min(size)
    scale = short_px / shortest
    height, width = (float(short_px) if n == shortest else scale * n for n in size)
    limit = min(1.0, max_long_px / max(height, width))
    return max(1, int(height * limit + 0.5)), max(1, int(width * limit + 0.5))


def transform_image(image: np.ndarray, geometry: Geometry) -> Tensor:
    """An image, ``[H, W, 3]`` uint8 to ``[3, h, w]`` uint8, channels last in memory.

    It is resized bilinearly, with antialiasing where it shrinks. torch's kernel agrees with
    Pillow's to one grey level and takes an eighth of its time, on pixels that keep their channels
    together.
    """
    if geometry.resize == "pillow" and geometry.resized != geometry.source:
        size = geometry.resized[::-1]
        image = np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    writable = np.require(image, requirements="W")  # torch warns of what is not
    pixels = torch.from_numpy(writable)[None].permute(0, 3, 1, 2)
    if pixels.shape[2:] != geometry.resized:
        pixels = interpolate(pixels, geometry.resized, mode="bilinear", antialias=True)
    (top, left), (height, width) = geometry.offset, geometry.size
    result = pixels[0, :, top : top + height, left : left + width]
    return result.flip(-1) if geometry.flip else result


def transform_map(labels: np.ndarray, geometry: Geometry) -> np.ndarray:
    """A map of labels, ``[H, W]`` to ``[h, w]`` of its dtype, by the pixel under each centre."""
    rows, columns = _source_pixels(geometry)
    # columns first: the expensive pass, one element at a time, then runs over the fewer rows
    return labels.take(columns, axis=1).take(rows, axis=0)


def transform_crop(crop: MaskCrop, geometry: Geometry) -> MaskCrop | None:
    """A mask, exactly as :func:`transform_map` would move it on the full image.

    The result is not necessarily tight, and None if nothing of the mask is left.
    """
    rows, columns = _source_pixels(geometry)
    height, width = crop.mask.shape
    rows, columns = rows - crop.y, columns - crop.x
    kept_rows = np.flatnonzero((rows >= 0) & (rows < height))
    kept_columns = np.flatnonzero((columns >= 0) & (columns < width))
    if not len(kept_rows) or not len(kept_columns):
        return None
    mask = crop.mask.take(columns[kept_columns], axis=1).take(rows[kept_rows], axis=0)
    return MaskCrop(y=int(kept_rows[0]), x=int(kept_columns[0]), mask=mask)


def transform_polygon(polygon: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The corners of a polygon, ``[n, 2]`` float64 (x, y); they may leave the result."""
    scale = np.array(geometry.resized[::-1]) / geometry.source[::-1]
    moved: np.ndarray = polygon * scale - geometry.offset[::-1]
    if geometry.flip:
        moved[:, 0] = geometry.size[1] - moved[:, 0]
    return moved


def _source_pixels(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """The row and the column in the source under the centre of each row and column of the result.

    Pixel i's centre, i + 1/2, comes from (i + 1/2) * old / new; in integers, so no rounding.
    """
    rows, columns = (
        (2 * np.arange(offset, offset + count) + 1) * old // (2 * new)
        for offset, count, old, new in zip(
            geometry.offset, geometry.size, geometry.source, geometry.resized, strict=True
        )
    )
    return rows, columns[::-1] if geometry.flip else columns
