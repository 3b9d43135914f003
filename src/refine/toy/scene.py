"""Composition of the toy scenes: which stuff lies where, which things stand on it, who is in front.

What a scene has to teach, and how:

* *Depth order is seen, not computed.* Things get their places first, under rules that do not
  know the order; the order is drawn afterwards, with as many smaller (and lower) things in front
  as behind. So nothing about size or place tells it; the picture does, and in part the pair of
  categories (:mod:`refine.toy.depth`).
* *Things tell stuff.* Beach and desert share one texture and are put anywhere alike. Only the
  things that stand on them differ (:data:`~refine.toy.objects.NEVER_ON`).

That is version 1. In version 2 each task needs what the other one knows:

* *Things are told by their silhouettes*; their hues are random (but with ``hues=category``). They
  are more and thinner.
* *Things tell stuff, next to them.* Each thing is surrounded by a ring of sand, which is beach or
  desert by the category of the nearest thing (:data:`~refine.toy.objects.STANDS_ON`).
* *Stuff tells the extent of things.* Many things have a hatched flap within their box. It is part
  of the thing or of the sand, by the ground beyond the ring
  (:data:`~refine.toy.objects.OWN_FLAP_ON`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.ndimage import distance_transform_edt

from refine.options import ToyOptions
from refine.toy.depth import balanced_order, overlap
from refine.toy.objects import (
    ID_OF,
    NEVER_ON,
    OWN_FLAP_ON,
    SPLITS,
    STANDS_ON,
    THINGS,
    VOID,
    ToyObject,
    ToyScene,
)
from refine.toy.render import HUES, VOID_TEXTURES, expose, paint_texture, paint_thing
from refine.toy.shapes import (
    blob_outline,
    flap_outline,
    mask_of,
    outline_area,
    rasterise,
    thing_outline,
)

_LOOKALIKES = ("beach", "desert")

_NO_THINGS_SHARE = 0.06
_CROWD_SHARE = 0.06
_VOID_PATCH_SHARE = 0.2
_NUM_REGIONS_ODDS = (0.25, 0.45, 0.30)  # of 1, 2, 3 regions
_SIDE_PX = {1: (15.0, 40.0), 2: (18.0, 44.0)}  # by version
_RING_PX = (8.0, 13.0)
_FLAP_SHARE = 0.75
_LEAST_FLAP = 0.1  # of the area of its thing
_LEAST_UNCOVERED_PX = 60
_LEAST_INSIDE = 0.6
_ATTEMPTS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class _Crowding:
    """How close things stand."""

    num_things_odds: tuple[float, ...]  # of 1, 2, ... things
    partner_odds: tuple[float, float]  # of an overlap with another, before one has any and later
    partner_overlap: float  # smallest share of either of two partners in the other
    partner_distance: tuple[float, float]  # least and most, as a share of the mean of their sides
    most_hidden: float  # largest share of a thing that all the others together may hide


_LOOSE = _Crowding(
    num_things_odds=(0.07, 0.20, 0.28, 0.23, 0.14, 0.08),
    partner_odds=(0.7, 0.5),
    partner_overlap=0.22,  # a little more than PAIR_OVERLAP
    partner_distance=(0.3, 0.8),
    most_hidden=0.65,
)
_NUM_THINGS_ODDS = (0.03, 0.09, 0.18, 0.25, 0.22, 0.14, 0.09)  # of 1 to 7 things: loose, version 2
_CROWDED = _Crowding(
    num_things_odds=(0.0, 0.10, 0.20, 0.30, 0.25, 0.15),
    partner_odds=(0.95, 0.8),
    partner_overlap=0.45,
    partner_distance=(0.15, 0.5),
    most_hidden=0.8,
)


@dataclass(slots=True, eq=False)
class _Stage:
    """A scene in the making."""

    crowding: _Crowding
    version: int
    rng: np.random.Generator
    size: tuple[int, int]
    unit: float
    canvas: np.ndarray
    background: np.ndarray
    placed: list[ToyObject] = field(default_factory=list)


def generate_scene(options: ToyOptions, split: str, index: int) -> ToyScene:
    """Scene ``index`` (from 0) of a split, the same whenever and wherever it is made.

    Of the options only seed, size, crowdedness, version and hues matter.

    Raises:
        ValueError: An unknown split or a negative index.
    """
    if split not in SPLITS or index < 0:
        raise ValueError(f"split={split!r}, index={index}: expected one of {SPLITS} and 0 or more")
    rng = np.random.default_rng([options.seed, SPLITS.index(split), index])
    crowding = _CROWDED if options.crowded else _LOOSE
    bare = rng.random() < _NO_THINGS_SHARE
    is_own = options.version == 1 or options.crowded
    odds = crowding.num_things_odds if is_own else _NUM_THINGS_ODDS
    num_things = 0 if bare else int(rng.choice(len(odds), p=odds)) + 1
    size = (options.height_px, options.width_px)
    stage = _lay_background(rng, size, bare=bare, crowding=crowding, version=options.version)
    if num_things:
        _place_things(stage, num_things)
    if options.version != 1:
        _surround_things(stage)
    order = balanced_order(rng, stage.placed, index=index)
    has_hues = options.version == 1 or options.hues == "category"
    nearest, stuff = _paint_things(stage, order, has_hues=has_hues)
    objects = (replace(t, depth=k, visible=nearest == k) for k, t in enumerate(order))
    image = expose(stage.canvas, rng)
    return ToyScene(image, tuple(objects), stage.background, stuff, options.version)


def _paint_things(
    stage: _Stage, order: Sequence[ToyObject], *, has_hues: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Paint from far to near; ``[H, W]`` depth of the thing that is seen or -1, and the stuff."""
    nearest, stuff = np.full(stage.size, -1), stage.background.copy()
    for depth, thing in enumerate(order):
        if thing.foreign_flap is not None:
            hidden = thing.footprint
            nearest[hidden], stuff[hidden] = -1, ID_OF[STANDS_ON[thing.name]]
        nearest[thing.mask] = depth
        painted = thing.outlines if thing.is_crowd else thing.outlines[:1]
        for outline in painted:
            hue = HUES[thing.name] if has_hues else None
            paint_thing(
                stage.canvas, outline, hue=hue, unit=stage.unit, rng=stage.rng, flap=thing.flap
            )
    stuff[nearest >= 0] = VOID
    return nearest, stuff


def _surround_things(stage: _Stage) -> None:
    """Lay the sand: within a drawn distance of a thing, of the category that the nearest tells."""
    things = [thing for thing in stage.placed if not thing.is_crowd]
    if not things:
        return
    distances = np.stack([distance_transform_edt(~thing.mask) for thing in things])
    reach = stage.rng.uniform(*_RING_PX) * stage.unit
    alpha = np.clip(reach - distances.min(0) + 0.5, 0, 1).astype(np.float32)[..., None]
    sand = paint_texture("beach", stage.size, unit=stage.unit, rng=stage.rng)
    stage.canvas += alpha * (sand - stage.canvas)
    grounds = np.array([ID_OF[STANDS_ON[thing.name]] for thing in things], np.uint8)
    is_sand = distances.min(0) <= reach
    stage.background[is_sand] = grounds[distances.argmin(0)][is_sand]


def _lay_background(
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    bare: bool,
    crowding: _Crowding,
    version: int,
) -> _Stage:
    """Paint one to three regions of stuff, and sometimes a patch of no category."""
    unit = float(np.sqrt(size[0] * size[1] / (128 * 192)))
    names = _choose_stuff(rng, bare=bare or version != 1)
    levels = _levels(rng, size, unit=unit)
    canvas = paint_texture(names[0], size, unit=unit, rng=rng)
    background = np.full(size, ID_OF[names[0]], np.uint8)
    for k, name in enumerate(names[1:], start=1):
        # at the k-th of the quantiles that share the scene out, give or take
        cut = np.quantile(levels, (k + rng.uniform(-0.25, 0.25)) / len(names))
        alpha = np.clip(levels - cut + 0.5, 0, 1).astype(np.float32)[..., None]
        canvas += alpha * (paint_texture(name, size, unit=unit, rng=rng) - canvas)
        background[levels >= cut] = ID_OF[name]
    if rng.random() < _VOID_PATCH_SHARE:
        name = str(rng.choice(VOID_TEXTURES))
        side = rng.uniform(28, 60) * unit
        outline = blob_outline(side_px=side, centre=_anywhere(rng, size), rng=rng)
        patch = paint_texture(name, size, unit=unit, rng=rng)
        window, inside, _ = rasterise(outline, size)
        canvas[window] += inside[..., None] * (patch[window] - canvas[window])
        background[window][inside >= 0.5] = VOID
    return _Stage(crowding, version, rng, size, unit, canvas, background)


def _choose_stuff(rng: np.random.Generator, *, bare: bool) -> list[str]:
    """Distinct categories of the regions, in their order across the scene.

    A look-alike needs things to tell it, so a bare scene has none; two of them never touch.
    """
    count = int(rng.choice(3, p=_NUM_REGIONS_ODDS)) + 1
    names = [str(n) for n in rng.permutation(["sky", "water", "meadow", *([] if bare else ["?"])])]
    names = names[:count]
    first, second = (str(n) for n in rng.permutation(_LOOKALIKES))
    if count == 3 and "?" in (names[0], names[2]) and rng.random() < 0.5:
        return [first, names[1], second]
    return [first if name == "?" else name for name in names]


def _levels(rng: np.random.Generator, size: tuple[int, int], *, unit: float) -> np.ndarray:
    """``[H, W]`` pixels along a random direction, bent into waves: regions are cut from it."""
    y, x = np.mgrid[: size[0], : size[1]]
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    across = np.cos(angle) * y - np.sin(angle) * x
    waves: np.ndarray = along
    for length in (rng.uniform(35, 60), rng.uniform(80, 140)):
        phase = across * (2 * np.pi / (length * unit)) + rng.uniform(0, 2 * np.pi)
        waves = waves + 0.06 * length * unit * np.sin(phase)
    return waves


def _place_things(stage: _Stage, count: int) -> None:
    """First what tells the look-alikes, then partners in overlap and others."""
    rng = stage.rng
    lookalikes = [name for name in _LOOKALIKES if (stage.background == ID_OF[name]).any()]
    for ground in lookalikes:
        tellers = [name for name, never in NEVER_ON.items() if never != ground]
        _place(stage, tellers, ground=ground)
    partner_odds, later_odds = stage.crowding.partner_odds
    for _ in range(len(stage.placed), count):
        partner = None
        if stage.placed and rng.random() < partner_odds:
            partner = stage.placed[int(rng.choice(len(stage.placed)))]
        if _place(stage, THINGS, partner=partner) and partner:
            partner_odds = later_odds
    if rng.random() < _CROWD_SHARE:
        _place(stage, THINGS, crowd=True)


def _place(
    stage: _Stage,
    names: Sequence[str],
    *,
    ground: str | None = None,
    partner: ToyObject | None = None,
    crowd: bool = False,
) -> bool:
    """Add one object of any of the categories ``names``; whether a place was found for it.

    It has to stand on ``ground`` and to overlap ``partner``, if given.
    """
    for _ in range(_ATTEMPTS):
        name = str(stage.rng.choice(names))
        candidate = _cluster(stage, name) if crowd else _single(stage, name, partner=partner)
        if not candidate.mask.any() or not _stands_well(stage, candidate, ground=ground):
            continue
        if partner and overlap(candidate.mask, partner.mask) < stage.crowding.partner_overlap:
            continue
        if _leaves_all_visible(stage, [*stage.placed, candidate]):
            stage.placed.append(candidate)
            return True
    return False


def _single(stage: _Stage, name: str, *, partner: ToyObject | None) -> ToyObject:
    rng = stage.rng
    side = float(np.exp(rng.uniform(*np.log(_SIDE_PX[stage.version])))) * stage.unit
    centre = _anywhere(rng, stage.size)
    if partner:
        distance = rng.uniform(*stage.crowding.partner_distance) * (side + partner.side) / 2
        angle = rng.uniform(0, 2 * np.pi)
        x, y = partner.centre
        centre = x + distance * np.cos(angle), y + distance * np.sin(angle)
    slim = stage.version != 1
    outline = thing_outline(name, side_px=side, centre=centre, rng=rng, slim=slim)
    mask = mask_of([outline], stage.size)
    thing = ToyObject(name=name, outlines=(outline,), mask=mask, side=side, centre=centre)
    return _with_flap(stage, thing) if slim and rng.random() < _FLAP_SHARE else thing


def _with_flap(stage: _Stage, thing: ToyObject) -> ToyObject:
    """The thing with a flap, unless too little of it would be seen or no category lies there."""
    flap = flap_outline(thing.outlines[0], stage.rng)
    whole = mask_of([thing.outlines[0], flap], stage.size)
    x, y = (int(v) for v in np.clip(thing.centre, 0, np.array(stage.size[::-1]) - 1))
    ground = stage.background[y, x]
    if whole.sum() < (1 + _LEAST_FLAP) * thing.mask.sum() or ground == VOID:
        return thing
    if ground not in [ID_OF[name] for name in OWN_FLAP_ON]:
        return replace(thing, flap=flap)
    return replace(thing, flap=flap, outlines=(*thing.outlines, flap), mask=whole)


def _cluster(stage: _Stage, name: str) -> ToyObject:
    rng, unit = stage.rng, stage.unit
    middle = _anywhere(rng, stage.size)
    spread = (rng.uniform(12, 20) * unit, rng.uniform(8, 14) * unit)
    outlines = []
    for _ in range(int(rng.integers(12, 22))):
        x, y = middle + rng.uniform(-1, 1, 2) * spread
        side = rng.uniform(5.0, 7.5) * unit
        outlines.append(thing_outline(name, side_px=side, centre=(x, y), rng=rng))
    mask = mask_of(outlines, stage.size)
    return ToyObject(name=name, outlines=tuple(outlines), mask=mask, is_crowd=True)


def _anywhere(rng: np.random.Generator, size: tuple[int, int]) -> tuple[float, float]:
    return rng.uniform(0, size[1]), rng.uniform(0, size[0])


def _stands_well(stage: _Stage, candidate: ToyObject, *, ground: str | None) -> bool:
    """Mostly inside the image, mostly on ``ground``, and clear of the stuff it never stands on."""
    counts = np.bincount(stage.background[candidate.mask], minlength=256)
    area = counts.sum()
    if not candidate.is_crowd and area < _LEAST_INSIDE * outline_area(candidate.outlines[0]):
        return False
    never = NEVER_ON.get(candidate.name)
    if never is not None and counts[ID_OF[never]] > 0.05 * area:
        return False
    return ground is None or bool(counts[ID_OF[ground]] >= 0.7 * area)


def _leaves_all_visible(stage: _Stage, placed: Sequence[ToyObject]) -> bool:
    """Whether each would still be seen with all the others in front of it.

    Asking this of every order keeps the order that is drawn later independent of the places.
    """
    cover = np.sum([thing.footprint for thing in placed], axis=0)
    share, least = 1 - stage.crowding.most_hidden, _LEAST_UNCOVERED_PX * stage.unit**2
    return all(
        (cover[thing.mask] == 1).sum() >= max(share * thing.mask.sum(), least) for thing in placed
    )
