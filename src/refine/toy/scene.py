"""Composition of the toy scenes: which stuff lies where, which things stand on it, who is in front.

What a scene has to teach, and how:

* *Depth order is seen, not computed.* Things get their places first, under rules that do not
  know the order; the order is drawn afterwards, with as many smaller (and lower) things in front
  as behind. So nothing about size or place tells it; the picture does, and in part the pair of
  categories (:mod:`refine.toy.depth`).
* *Things tell stuff.* Beach and desert share one texture and are put anywhere alike. Only the
  things that stand on them differ (:data:`~refine.toy.objects.NEVER_ON`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from refine.options import ToyOptions
from refine.toy.depth import balanced_order, overlap
from refine.toy.objects import ID_OF, NEVER_ON, SPLITS, THINGS, VOID, ToyObject, ToyScene
from refine.toy.render import VOID_TEXTURES, expose, paint_texture, paint_thing
from refine.toy.shapes import blob_outline, mask_of, outline_area, rasterise, thing_outline

_LOOKALIKES = ("beach", "desert")

_NO_THINGS_SHARE = 0.06
_CROWD_SHARE = 0.06
_VOID_PATCH_SHARE = 0.2
_NUM_REGIONS_ODDS = (0.25, 0.45, 0.30)  # of 1, 2, 3 regions
_SIDE_PX = (15.0, 40.0)
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
    rng: np.random.Generator
    size: tuple[int, int]
    unit: float
    canvas: np.ndarray
    background: np.ndarray
    placed: list[ToyObject] = field(default_factory=list)


def generate_scene(options: ToyOptions, split: str, index: int) -> ToyScene:
    """Scene ``index`` (from 0) of a split, the same whenever and wherever it is made.

    Of the options only seed, size and crowdedness matter.

    Raises:
        ValueError: An unknown split or a negative index.
    """
    if split not in SPLITS or index < 0:
        raise ValueError(f"split={split!r}, index={index}: expected one of {SPLITS} and 0 or more")
    rng = np.random.default_rng([options.seed, SPLITS.index(split), index])
    crowding = _CROWDED if options.crowded else _LOOSE
    bare = rng.random() < _NO_THINGS_SHARE
    num_things = 0 if bare else int(rng.choice(6, p=crowding.num_things_odds)) + 1
    size = (options.height_px, options.width_px)
    stage = _lay_background(rng, size, bare=bare, crowding=crowding)
    if num_things:
        _place_things(stage, num_things)
    order = balanced_order(rng, stage.placed, index=index)
    nearest = np.full(size, -1)
    for depth, thing in enumerate(order):
        nearest[thing.mask] = depth
        for outline in thing.outlines:
            paint_thing(stage.canvas, thing.name, outline, unit=stage.unit, rng=rng)
    objects = (replace(t, depth=k, visible=nearest == k) for k, t in enumerate(order))
    return ToyScene(expose(stage.canvas, rng), tuple(objects), stage.background)


def _lay_background(
    rng: np.random.Generator, size: tuple[int, int], *, bare: bool, crowding: _Crowding
) -> _Stage:
    """Paint one to three regions of stuff, and sometimes a patch of no category."""
    unit = float(np.sqrt(size[0] * size[1] / (128 * 192)))
    names = _choose_stuff(rng, bare=bare)
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
    return _Stage(crowding, rng, size, unit, canvas, background)


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
    side = float(np.exp(rng.uniform(*np.log(_SIDE_PX)))) * stage.unit
    centre = _anywhere(rng, stage.size)
    if partner:
        distance = rng.uniform(*stage.crowding.partner_distance) * (side + partner.side) / 2
        angle = rng.uniform(0, 2 * np.pi)
        x, y = partner.centre
        centre = x + distance * np.cos(angle), y + distance * np.sin(angle)
    outline = thing_outline(name, side_px=side, centre=centre, rng=rng)
    mask = mask_of([outline], stage.size)
    return ToyObject(name=name, outlines=(outline,), mask=mask, side=side, centre=centre)


def _cluster(stage: _Stage, name: str) -> ToyObject:
    rng, unit = stage.rng, stage.unit
    middle = _anywhere(rng, stage.size)
    spread = (rng.uniform(12, 20) * unit, rng.uniform(8, 14) * unit)
    outlines = []
    for _ in range(int(rng.integers(12, 22))):
        x, y = middle + rng.uniform(-1, 1, 2) * spread
        side = rng.uniform(5.0, 7.5) * unit
        outlines.append(thing_outline(name, side_px=side, centre=(x, y), rng=rng))
    return ToyObject(name=name, outlines=tuple(outlines), mask=mask_of(outlines, stage.size))


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
    cover = np.sum([thing.mask for thing in placed], axis=0)
    share, least = 1 - stage.crowding.most_hidden, _LEAST_UNCOVERED_PX * stage.unit**2
    return all(
        (cover[thing.mask] == 1).sum() >= max(share * thing.mask.sum(), least) for thing in placed
    )
