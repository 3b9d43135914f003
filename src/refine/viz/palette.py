"""Colours of segments: the dataset's own, with a shade for each instance."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from refine.categories import CategoryTable
from refine.metrics.functional import Panoptic

Color = tuple[int, int, int]

VOID_COLOR: Color = (30, 30, 30)

# towards white (positive) or black (negative); neighbouring entries differ the most
_SHADES = (0.0, 0.45, -0.4, 0.22, -0.2, 0.62, -0.55, 0.33)


def segment_colors(panoptic: Panoptic, categories: CategoryTable) -> dict[int, Color]:
    """RGB in 0..255 for each segment id, void (0) included.

    Stuff and crowds have the colour of their category. Instances have shades of it in the order of
    ``segments``; two that touch get different ones, as long as there are enough (and the category
    is not itself black or white).
    """
    neighbours = _touching_ids(panoptic.segment_map)
    category_of = {s.id: s.category for s in panoptic.segments}
    instances = [s for s in panoptic.segments if s.is_thing and not s.is_crowd]
    shades = dict.fromkeys(category_of.keys() - {s.id for s in instances}, 0)
    counts: Counter[int] = Counter()
    for segment in instances:
        touched = neighbours[segment.id] & shades.keys()
        taken = {shades[k] for k in touched if category_of[k] == segment.category}
        start = counts[segment.category]
        order = [(start + k) % len(_SHADES) for k in range(len(_SHADES))]
        shades[segment.id] = next((k for k in order if k not in taken), order[0])
        counts[segment.category] += 1
    colors = {k: _shade(categories[category_of[k]].color, shade) for k, shade in shades.items()}
    return {0: VOID_COLOR, **colors}


def look_up(segment_map: np.ndarray, values: Mapping[int, Any], default: Any) -> np.ndarray:
    """The value of each pixel's id, at least 0; ``default`` for ids without one."""
    size = max(int(segment_map.max(initial=0)), *values, 0) + 1
    table = np.full((size, *np.shape(default)), default)
    table[list(values)] = list(values.values())
    found: np.ndarray = table[segment_map]
    return found


def _touching_ids(segment_map: np.ndarray) -> defaultdict[int, set[int]]:
    """The ids on the other side of each segment's borders (4-neighbours)."""
    neighbours: defaultdict[int, set[int]] = defaultdict(set)
    sides = ((segment_map[1:], segment_map[:-1]), (segment_map[:, 1:], segment_map[:, :-1]))
    for one, other in sides:
        border = one != other
        pairs = np.unique(one[border].astype(np.int64) << 32 | other[border])
        for a, b in zip((pairs >> 32).tolist(), (pairs & 0xFFFFFFFF).tolist(), strict=True):
            neighbours[a].add(b)
            neighbours[b].add(a)
    return neighbours


def _shade(color: Color, shade: int) -> Color:
    amount = _SHADES[shade]
    red, green, blue = (round(v + abs(amount) * (255 * (amount > 0) - v)) for v in color)
    return red, green, blue
