"""Paint of the toy scenes: textures of the stuff, shading and contour of the things.

Canvases are ``[H, W, 3]`` float32 RGB in 0..255. ``unit`` is the length of one pixel of the
default scene: textures and contours grow with the scene.
"""

import colorsys
from collections.abc import Callable

import numpy as np
from PIL import Image

from refine.toy.shapes import outline_area, rasterise

HUES = {"ball": 0, "crate": 27, "star": 55, "pill": 165, "tent": 230, "moon": 300}
"""Middle of each thing's range of hues, in degrees."""
_HUE_JITTER = 9.0
_RIM_PX = 1.7
_SENSOR_NOISE = 5.0


def paint_texture(
    name: str, size: tuple[int, int], *, unit: float, rng: np.random.Generator
) -> np.ndarray:
    """A canvas full of the texture ``name``: a stuff category's or one of ``VOID_TEXTURES``."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32) / unit
    return _TEXTURES[name](y, x, rng)


def paint_thing(
    canvas: np.ndarray,
    outline: np.ndarray,
    *,
    hue: float | None,
    unit: float,
    rng: np.random.Generator,
    flap: np.ndarray | None = None,
) -> None:
    """Paint one thing over what ``canvas`` holds, in place.

    A gradient runs over the whole thing and a dark contour along its edge, so that an overlap
    shows which of the two lies in front. Its flap, if any, is hatched in the same colour.

    Args:
        canvas: The canvas.
        outline: The outline without the flap.
        hue: Middle of the range of hues in degrees; None draws any hue.
        unit: Length of a pixel of the default scene.
        rng: Where the colours come from.
        flap: The outline of the flap, painted first.
    """
    rim_px = min(_RIM_PX * unit, 0.1 * float(np.sqrt(outline_area(outline))))
    size = (canvas.shape[0], canvas.shape[1])
    window, inside, rim = rasterise(outline, size, rim_px=rim_px)
    if not inside.size:
        return
    jitter, hue = (180.0, 0.0) if hue is None else (_HUE_JITTER, hue)
    drawn = (hue + rng.uniform(-jitter, jitter)) / 360 % 1
    saturation, value = rng.uniform(0.7, 0.9), rng.uniform(0.75, 0.95)
    paint = 255 * np.array(colorsys.hsv_to_rgb(drawn, saturation, value))
    if flap is not None:
        _hatch(canvas, flap, paint, unit=unit)
    angle = rng.uniform(0, 2 * np.pi)
    low, high = outline.min(0), outline.max(0)
    x = np.arange(window[1].start, window[1].stop) + 0.5 - (low[0] + high[0]) / 2
    y = np.arange(window[0].start, window[0].stop) + 0.5 - (low[1] + high[1]) / 2
    # about -1 to 1 across the outline
    plane = (np.cos(angle) * x + np.sin(angle) * y[:, None]) / (max(high - low) / 2)
    tone = (plane.astype(np.float32) * 0.25 + 1.0) * (1 - 0.75 * rim)
    canvas[window] += inside[..., None] * (
        tone[..., None] * paint.astype(np.float32) - canvas[window]
    )


def _hatch(canvas: np.ndarray, outline: np.ndarray, paint: np.ndarray, *, unit: float) -> None:
    """Fill an outline with upright stripes of a colour, dark and light."""
    window, inside, _ = rasterise(outline, (canvas.shape[0], canvas.shape[1]))
    x = np.arange(window[1].start, window[1].stop)
    tone = np.where(x // (1.5 * unit) % 2, 0.45, 0.8)[None, :, None]
    canvas[window] += inside[..., None] * ((tone * paint).astype(np.float32) - canvas[window])


def expose(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The canvas as a noisy ``[H, W, 3]`` uint8 photograph."""
    noisy = canvas + _SENSOR_NOISE * rng.standard_normal(canvas.shape, dtype=np.float32)
    photograph: np.ndarray = np.rint(noisy).clip(0, 255).astype(np.uint8)
    return photograph


def _tinted(
    rgb: tuple[int, int, int], brightness: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A jittered base colour, ``brightness`` grey levels lighter or darker at each pixel."""
    base = np.array(rgb, np.float32) + rng.uniform(-8, 8, 3).astype(np.float32)
    return base + brightness.astype(np.float32)[..., None]


def _cloud(shape: tuple[int, ...], cells: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of unit variance at its ``cells[0]`` by ``cells[1]`` knots."""
    knots = rng.standard_normal((max(cells[0], 2), max(cells[1], 2)), dtype=np.float32)
    smooth = Image.fromarray(knots).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(smooth)


def _sky(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    gradient = 28 * np.sin((np.cos(angle) * x + np.sin(angle) * y) / 60 + rng.uniform(0, 6))
    return _tinted((165, 190, 220), gradient + 8 * _cloud(y.shape, (5, 7), rng), rng)


def _water(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    tilt = rng.uniform(-0.25, 0.25)
    wobble = 1.5 * np.sin(x / 9 + rng.uniform(0, 6))
    stripes = np.sin((y + tilt * x + wobble) * (2 * np.pi / rng.uniform(7, 9)))
    return _tinted((60, 105, 130), 20 * stripes, rng)


def _meadow(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    blades = _cloud(y.shape, (int(y[-1, 0] / 4) + 2, int(x[0, -1] / 2) + 2), rng)
    return _tinted((85, 125, 60), 20 * blades, rng)


def _sand(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    grain = _cloud(y.shape, (int(y[-1, 0] / 2) + 2, int(x[0, -1] / 2) + 2), rng)
    return _tinted((200, 178, 140), 12 * grain + 7 * _cloud(y.shape, (4, 6), rng), rng)


def _checks(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    cell = rng.uniform(4, 5)
    return _tinted((120, 120, 120), 45.0 * ((y // cell + x // cell) % 2 * 2 - 1), rng)


def _hatching(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _tinted((120, 100, 115), 40 * np.sign(np.sin((y + x) * rng.uniform(0.7, 0.9))), rng)


_TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    "sky": _sky,
    "water": _water,
    "meadow": _meadow,
    "beach": _sand,
    "desert": _sand,
    "checks": _checks,
    "hatching": _hatching,
}

VOID_TEXTURES = ("checks", "hatching")
"""Textures that belong to no category."""
