"""Statistics of the toy scenes: whether they are what they promise to be."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from refine.toy.depth import ALWAYS_OVER, PAIR_OVERLAP, middle_row, overlap
from refine.toy.scene import NEVER_ON, TOY_CATEGORIES, VOID, ToyObject, ToyScene


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyReport:
    """What was measured on a set of scenes. Shares are fractions, NaN where there is nothing.

    Attributes:
        num_scenes: Scenes counted.
        overlap_share: Scenes with at least one pair.
        bare_share: Scenes without things.
        crowd_share: Scenes with a crowd.
        num_pairs: Pairs of things (no crowds) that overlap by ``PAIR_OVERLAP`` of either.
        smaller_on_top: Pairs whose smaller mask lies in front.
        lower_on_top: Pairs whose front object has the lower middle (larger y).
        category_known: Pairs whose categories stand in ``ALWAYS_OVER``.
        category_right: Pairs ordered right by their categories, a coin tossed for the others.
        lookalikes_told: Beaches and deserts on which a thing stands that never stands on the
            other.
        void_share: Pixels of no category.
        num_segments: Segments of each category, by name.
        seconds: Wall time of making and writing the scenes.
    """

    num_scenes: int
    overlap_share: float
    bare_share: float
    crowd_share: float
    num_pairs: int
    smaller_on_top: float
    lower_on_top: float
    category_known: float
    category_right: float
    lookalikes_told: float
    void_share: float
    num_segments: dict[str, int]
    seconds: float

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], *, seconds: float) -> "ToyReport":
        """The report of the summed :func:`count_scene` of all scenes."""

        def share(part: str, whole: str) -> float:
            return counts.get(part, 0) / counts[whole] if counts.get(whole) else float("nan")

        known = share("pairs_known", "pairs")
        return cls(
            num_scenes=counts.get("scenes", 0),
            overlap_share=share("overlaps", "scenes"),
            bare_share=share("bare", "scenes"),
            crowd_share=share("crowds", "scenes"),
            num_pairs=counts.get("pairs", 0),
            smaller_on_top=share("pairs_smaller", "pairs"),
            lower_on_top=share("pairs_lower", "pairs"),
            category_known=known,
            category_right=share("pairs_right", "pairs") + (1 - known) / 2,
            lookalikes_told=share("told", "lookalikes"),
            void_share=share("void_px", "px"),
            num_segments={c.name: counts.get(f"segments/{c.name}", 0) for c in TOY_CATEGORIES},
            seconds=seconds,
        )


def count_scene(scene: ToyScene) -> Counter[str]:
    """Everything a :class:`ToyReport` needs of one scene; counts of scenes add up."""
    stuff = scene.stuff
    things = [thing for thing in scene.objects if not thing.is_crowd]
    covered = np.zeros(stuff.shape, bool)
    for thing in scene.objects:
        covered |= thing.mask
    counts: Counter[str] = Counter(
        scenes=1,
        bare=not scene.objects,
        crowds=len(things) < len(scene.objects),
        px=stuff.size,
        void_px=int(((stuff == VOID) & ~covered).sum()),
    )
    for far, near in _pairs(things):
        names = (TOY_CATEGORIES[near.category].name, TOY_CATEGORIES[far.category].name)
        counts["pairs"] += 1
        counts["pairs_smaller"] += bool(near.mask.sum() < far.mask.sum())
        counts["pairs_lower"] += middle_row(near.mask) > middle_row(far.mask)
        counts["pairs_known"] += names in ALWAYS_OVER or names[::-1] in ALWAYS_OVER
        counts["pairs_right"] += names in ALWAYS_OVER
    counts["overlaps"] = counts["pairs"] > 0
    present = np.unique(stuff[stuff != VOID]).tolist()
    for category in [*present, *(thing.category for thing in scene.objects)]:
        counts[f"segments/{TOY_CATEGORIES[category].name}"] += 1
    for ground in {*NEVER_ON.values()} & {TOY_CATEGORIES[c].name for c in present}:
        counts["lookalikes"] += 1
        counts["told"] += any(_tells(thing, ground, scene) for thing in scene.objects)
    return counts


def _pairs(things: list[ToyObject]) -> Iterator[tuple[ToyObject, ToyObject]]:
    """Overlapping pairs as (far, near); ``things`` run from far to near."""
    for far, near in combinations(things, 2):
        if overlap(far.mask, near.mask) >= PAIR_OVERLAP:
            yield far, near


def _tells(thing: ToyObject, ground: str, scene: ToyScene) -> bool:
    """Whether half of ``thing`` lies on ``ground``, and it would not on the look-alike."""
    never = NEVER_ON.get(TOY_CATEGORIES[thing.category].name)
    if never is None or never == ground:
        return False
    category = next(k for k, c in enumerate(TOY_CATEGORIES) if c.name == ground)
    return bool((scene.background[thing.mask] == category).mean() >= 0.5)
