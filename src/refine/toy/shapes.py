"""Outlines of the toy things: polygons, and the pixels that they cover.

An outline is a ``[K, 2]`` float64 array of (x, y) corners in continuous pixels (see
:mod:`refine.types`), closed from its last corner to its first. Everything else about an object
follows from its outline, so annotation and picture cannot disagree.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from PIL import Image, ImageDraw

_AROUND = np.arange(40) * (2 * np.pi / 40)  # angles of a circle's corners
_SUPERSAMPLING = 8
_MAX_EDGE_PX = 1.5  # of an outline that the image border cuts


def thing_outline(
    name: str,
    *,
    side_px: float,
    centre: tuple[float, float],
    rng: np.random.Generator,
    slim: bool = False,
) -> np.ndarray:
    """A jittered, rotated outline of the thing category ``name``, perhaps outside the image.

    Its area is ``side_px`` squared, so that no category is larger than another. ``slim`` makes
    thinner stars, moons and pills.
    """
    make, max_turn = _SHAPES[name]
    corners = _SLIM.get(name, make)(rng) if slim else make(rng)
    turn = rng.uniform(-max_turn, max_turn)
    cos, sin = np.cos(turn), np.sin(turn)
    corners = corners @ np.array([[cos, sin], [-sin, cos]])
    corners *= side_px / np.sqrt(outline_area(corners))
    middle = (corners.min(0) + corners.max(0)) / 2
    turned: np.ndarray = corners - middle + centre
    return turned


def blob_outline(
    *, side_px: float, centre: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """A smooth irregular patch of about ``side_px`` by ``side_px``."""
    angle = _AROUND
    radius = np.ones_like(angle)
    for harmonic in (2, 3, 4):
        radius += rng.uniform(0, 0.14) * np.sin(harmonic * angle + rng.uniform(0, 2 * np.pi))
    return _polar(radius, angle) * side_px / 2 + centre


def flap_outline(outline: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A disc in one of the corners of an outline's box, cut where it would leave the box."""
    low, high = outline.min(0), outline.max(0)
    half = (high - low) / 2
    centre = low + half + half * rng.choice((-0.6, 0.6), 2)
    disc = _polar(1.0, _AROUND) * half * rng.uniform(0.45, 0.6) + centre
    cut: np.ndarray = np.clip(disc, low, high)
    return cut


def outline_area(outline: np.ndarray) -> float:
    """Area inside an outline, in square pixels."""
    x, y = outline.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def clip_outline(outline: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The part of an outline that lies inside an image of ``size`` (height, width).

    Corners outside are moved to the nearest point of the border: the polygon covers the same
    pixels as before, but for a sliver beside the places where an edge crosses the border. Fewer
    than three corners are left of an outline that lies outside.
    """
    limit = np.array(size[::-1], dtype=np.float64)
    if ((outline >= 0) & (outline <= limit)).all():
        return outline
    pieces = []
    for start, end in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        count = max(1, int(np.ceil(np.hypot(*(end - start)) / _MAX_EDGE_PX)))
        pieces.append(start + (end - start) * np.arange(count)[:, None] / count)
    clipped: np.ndarray = np.clip(np.concatenate(pieces), 0, limit)
    is_new = (clipped != np.roll(clipped, 1, axis=0)).any(1)
    return np.compress(is_new, clipped, axis=0)


def rasterise(
    outline: np.ndarray, size: tuple[int, int], *, rim_px: float = 0.0
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """Anti-aliased pixels of an outline in an image of ``size`` (height, width).

    Returns:
        The window (rows, columns) that holds the outline (perhaps empty), and for its ``[h, w]``
        pixels the fraction inside the outline and the fraction on its contour, which is ``rim_px``
        wide and lies inside: float32 in [0, 1].
    """
    low = np.clip(np.floor(outline.min(0)).astype(int), 0, size[::-1])
    high = np.clip(np.ceil(outline.max(0)).astype(int), low, size[::-1])
    (x0, y0), (x1, y1) = low.tolist(), high.tolist()
    window = (slice(y0, y1), slice(x0, x1))
    if x0 == x1 or y0 == y1:
        nothing = np.zeros((y1 - y0, x1 - x0), np.float32)
        return window, nothing, nothing
    # PIL draws between pixel centres: half a (fine) pixel less than our continuous coordinates
    corners = [(float(x), float(y)) for x, y in (outline - low) * _SUPERSAMPLING - 0.5]
    fine_size = ((x1 - x0) * _SUPERSAMPLING, (y1 - y0) * _SUPERSAMPLING)
    area, rim = Image.new("L", fine_size), Image.new("L", fine_size)
    ImageDraw.Draw(area).polygon(corners, fill=255)
    if rim_px:
        # centred on the outline: its outer half falls where nothing of the thing is painted
        width = round(2 * rim_px * _SUPERSAMPLING)
        ImageDraw.Draw(rim).line([*corners, *corners[:2]], fill=255, width=width, joint="curve")
    inside, on_rim = (
        np.asarray(fine.reduce(_SUPERSAMPLING), dtype=np.float32) / 255 for fine in (area, rim)
    )
    return window, inside, on_rim


def mask_of(outlines: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """``[H, W]`` bool: at least half of the pixel lies inside one of the outlines."""
    mask = np.zeros(size, bool)
    for outline in outlines:
        window, inside, _ = rasterise(outline, size)
        mask[window] |= inside >= 0.5
    return mask


def _polar(radius: np.ndarray | float, angle: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _ball(rng: np.random.Generator) -> np.ndarray:
    return _polar(1.0, _AROUND) * (1.0, rng.uniform(0.85, 1.0))


def _crate(rng: np.random.Generator) -> np.ndarray:
    width = rng.uniform(0.75, 1.35)
    return np.array([(-width, -1), (width, -1), (width, 1), (-width, 1)])


def _tent(rng: np.random.Generator) -> np.ndarray:
    tip = rng.uniform(-0.35, 0.35)
    return np.array([(-1.0, 0.0), (1.0, 0.0), (tip, -rng.uniform(1.5, 2.0))])


def _star(rng: np.random.Generator, inner: tuple[float, float] = (0.42, 0.52)) -> np.ndarray:
    radius = np.where(np.arange(10) % 2, rng.uniform(*inner), 1.0)
    return _polar(radius, _AROUND[::4])


def _moon(rng: np.random.Generator, shift: tuple[float, float] = (0.55, 0.65)) -> np.ndarray:
    # the unit disc less a disc of radius r around (d, 0); both circles cross at x
    r, d = rng.uniform(0.75, 0.85), rng.uniform(*shift)
    x = (1 + d * d - r * r) / (2 * d)
    outer, inner = np.arccos(x), np.arccos((x - d) / r)
    far = _polar(1.0, np.linspace(outer, 2 * np.pi - outer, 32))
    near = _polar(r, np.linspace(2 * np.pi - inner, inner, 20)[1:-1])
    near[:, 0] += d
    return np.concatenate([far, near])


def _pill(rng: np.random.Generator, half_length: tuple[float, float] = (0.7, 1.1)) -> np.ndarray:
    half = rng.uniform(*half_length)
    right = _polar(1.0, np.linspace(-np.pi / 2, np.pi / 2, 16))
    right[:, 0] += half
    return np.concatenate([right, -right])


_SHAPES: dict[str, tuple[Callable[[np.random.Generator], np.ndarray], float]] = {
    "ball": (_ball, np.pi),
    "crate": (_crate, 0.3),
    "tent": (_tent, 0.3),
    "star": (_star, np.pi),
    "moon": (_moon, np.pi),
    "pill": (_pill, np.pi),
}
"""Silhouette of each thing and how far it may be turned either way, in radians."""

_SLIM: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "star": partial(_star, inner=(0.3, 0.38)),
    "moon": partial(_moon, shift=(0.4, 0.5)),
    "pill": partial(_pill, half_length=(2.0, 3.0)),
}
