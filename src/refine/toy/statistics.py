"""Statistics of the toy scenes: whether they are what they promise to be."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from refine.toy.depth import nearer_is, overlapping_pairs
from refine.toy.objects import ALWAYS_OVER, ID_OF, NEVER_ON, TOY_CATEGORIES, VOID, ToyScene

REPORT = {
    "with an overlap of .2 or more": ("overlaps", "scenes"),
    "without things": ("bare", "scenes"),
    "with a crowd": ("crowds", "scenes"),
    "smaller on top": ("pairs_smaller", "pairs"),
    "lower on top": ("pairs_lower", "pairs"),
    "order known from the categories": ("pairs_known", "pairs"),
    "look-alike stuff told by a thing": ("told", "lookalikes"),
    "void pixels": ("void_px", "px"),
}
"""Share in the report: counts of the part and of the whole."""


def report_shares(counts: Mapping[str, int]) -> dict[str, float]:
    """The shares of :data:`REPORT` from the summed :func:`count_scene` of all scenes.

    Returns:
        Fractions in [0, 1], NaN where there is nothing; also "right by categories or a coin": the
        pairs ordered right by their categories, with a coin tossed for the others.
    """
    shares = {
        name: counts.get(part, 0) / counts[whole] if counts.get(whole) else float("nan")
        for name, (part, whole) in REPORT.items()
    }
    known = shares["order known from the categories"]
    right = counts.get("pairs_right", 0) / max(counts.get("pairs", 0), 1)
    return shares | {"right by categories or a coin": right + (1 - known) / 2}


def count_scene(scene: ToyScene) -> Counter[str]:
    """Everything that the report needs of one scene; counts of scenes add up.

    The keys are those of :data:`REPORT`, and ``segments/NAME`` for each category.
    """
    stuff = scene.stuff
    covered = np.zeros(stuff.shape, bool)
    for thing in scene.objects:
        covered |= thing.mask
    counts: Counter[str] = Counter(
        scenes=1,
        bare=not scene.objects,
        crowds=any(thing.is_crowd for thing in scene.objects),
        px=stuff.size,
        void_px=int(((stuff == VOID) & ~covered).sum()),
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
    present = {TOY_CATEGORIES[k].name for k in np.unique(stuff[stuff != VOID]).tolist()}
    for name in [*present, *(thing.name for thing in scene.objects)]:
        counts[f"segments/{name}"] += 1
    for ground in {*NEVER_ON.values()} & present:
        counts["lookalikes"] += 1
        counts["told"] += _is_told(scene, ground)
    return counts


def _is_told(scene: ToyScene, ground: str) -> bool:
    """Whether half of a thing lies on ``ground`` that would not lie on its look-alike."""
    return any(
        NEVER_ON.get(thing.name, ground) != ground
        and (scene.background[thing.mask] == ID_OF[ground]).mean() >= 0.5
        for thing in scene.objects
    )
