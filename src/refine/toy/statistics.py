"""Statistics of the toy scenes: whether they are what they promise to be."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from refine.toy.depth import nearer_is, overlapping_pairs
from refine.toy.objects import (
    ALWAYS_OVER,
    ID_OF,
    NEVER_ON,
    STANDS_ON,
    TOY_CATEGORIES,
    VOID,
    ToyScene,
)

_OTHER = {"beach": "desert", "desert": "beach"}

_REPORT = {
    "with an overlap of .2 or more": ("overlaps", "scenes"),
    "without things": ("bare", "scenes"),
    "with a crowd": ("crowds", "scenes"),
    "smaller on top": ("pairs_smaller", "pairs"),
    "lower on top": ("pairs_lower", "pairs"),
    "order known from the categories": ("pairs_known", "pairs"),
    "look-alike stuff told by a thing": ("told", "lookalikes"),
    "things with a flap": ("flaps", "things"),
    "flaps that are part of their thing": ("own_flaps", "flaps"),
    "void pixels": ("void_px", "px"),
}
"""Share in the report: counts of the part and of the whole."""


def report_shares(counts: Mapping[str, int]) -> dict[str, float]:
    """What the summed :func:`count_scene` of all scenes tell: fractions in [0, 1], NaN of nothing.

    "Right by categories or a coin" orders pairs by their categories, or else tosses a coin.
    """
    shares = {
        name: counts.get(part, 0) / counts[whole] if counts.get(whole) else float("nan")
        for name, (part, whole) in _REPORT.items()
    }
    known = shares["order known from the categories"]
    right = counts.get("pairs_right", 0) / max(counts.get("pairs", 0), 1)
    return shares | {"right by categories or a coin": right + (1 - known) / 2}


def count_scene(scene: ToyScene) -> Counter[str]:
    """What the report needs of one scene, and ``segments/NAME`` by category; counts add up."""
    stuff = scene.stuff
    covered = sum(int(thing.visible.sum()) for thing in scene.objects)
    counts: Counter[str] = Counter(
        scenes=1,
        bare=not scene.objects,
        crowds=any(thing.is_crowd for thing in scene.objects),
        px=stuff.size,
        void_px=int((stuff == VOID).sum()) - covered,
    )
    for far, near in overlapping_pairs(scene.objects):
        is_smaller, is_lower = nearer_is(far, near)
        names = (near.name, far.name)
        counts["pairs"] += 1
        counts["pairs_smaller"] += is_smaller
        counts["pairs_lower"] += is_lower
        counts["pairs_known"] += names in ALWAYS_OVER or names[::-1] in ALWAYS_OVER
        counts["pairs_right"] += names in ALWAYS_OVER
    counts["overlaps"] = counts["pairs"] > 0
    counts["things"] = sum(not thing.is_crowd for thing in scene.objects)
    counts["flaps"] = sum(thing.flap is not None for thing in scene.objects)
    foreign = sum(thing.foreign_flap is not None for thing in scene.objects)
    counts["own_flaps"] = counts["flaps"] - foreign
    present = {TOY_CATEGORIES[k].name for k in np.unique(stuff[stuff != VOID]).tolist()}
    for name in [*present, *(thing.name for thing in scene.objects)]:
        counts[f"segments/{name}"] += 1
    never = NEVER_ON
    if scene.version != 1:
        never = {name: _OTHER[ground] for name, ground in STANDS_ON.items()}
    for ground in {*_OTHER} & present:
        counts["lookalikes"] += 1
        # half of a thing lies on it that would not lie on its look-alike
        counts["told"] += any(
            never.get(thing.name, ground) != ground
            and (scene.background[thing.mask] == ID_OF[ground]).mean() >= 0.5
            for thing in scene.objects
        )
    return counts
