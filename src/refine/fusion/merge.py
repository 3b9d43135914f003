"""The panoptic merge: overlapping instances and a semantic map become one segment map.

The heuristic of Kirillov et al. 2019 ("Panoptic Segmentation", section 6) as detectron2 runs it:

1. Instances below the score limit are left out; the others come by descending score.
2. An instance whose mask is taken for more than ``overlap_thresh`` is left out; else it gets those
   of its pixels that are free.
3. Each stuff category gets its free pixels as one segment, or none if they are too few.

Everything else is void: free pixels of thing categories in the semantic map, too.

Relations add one thing (OCFusion, Lazarow et al. 2020): in step 2, what an instance lies on top of
counts as free, and if it is accepted it reclaims those pixels. An instance that is left out changes
nothing. One that others reclaim from is not tested again, and disappears if nothing is left of it.
Each pair decides on its own pixels, so relations in a circle need no breaking.

With ``order: topological`` those accepted are painted once more, as :func:`paint_order` says.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from refine.fusion.overlaps import shared_window
from refine.options import MergeOptions
from refine.types import IGNORE_INDEX, MaskCrop, PanopticRuns, Segment


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One detected thing at original size.

    Attributes:
        crop: Its binary mask.
        label: Thing category.
        score: Detection score in [0, 1].
        index: Its position in the :class:`~refine.types.RawPrediction`; -1 if it has none.
    """

    crop: MaskCrop
    label: int
    score: float
    index: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class Relations:
    """Which instance of a pair lies on top.

    Attributes:
        pairs: ``[K, 2]`` int64 positions ``(i, j)`` in the list of instances, each pair once.
        on_top: ``[K]`` int8: 1 if i lies over j, -1 if j lies over i, 0 if they have no relation.
        margins: ``[K]`` float64, at least 0: how clearly, comparable within one image.
    """

    pairs: np.ndarray
    on_top: np.ndarray
    margins: np.ndarray

    @property
    def edges(self) -> list[tuple[int, int]]:
        """``(upper, lower)`` of every pair with a relation, the clearest first."""
        ordered = np.argsort(-self.margins, kind="stable")
        ordered = ordered[self.on_top[ordered] != 0]
        swapped = np.where(self.on_top[:, None] < 0, self.pairs[:, ::-1], self.pairs)
        return [(upper, lower) for upper, lower in swapped[ordered].tolist()]


def merge_segments(
    instances: Sequence[Instance],
    semantic: np.ndarray,
    *,
    num_things: int,
    options: MergeOptions,
    stuff_area_limit_px: int,
    relations: Relations | None = None,
) -> PanopticRuns:
    """Merge the predictions of one image.

    Args:
        instances: Instances in any order; of equal scores the earlier one comes first.
        semantic: ``[H, W]`` uint8 or wider integer: contiguous category or 255 (void).
        num_things: Number of thing categories; categories from here on are stuff.
        options: Limits of score and overlap.
        stuff_area_limit_px: Stuff with fewer free pixels becomes void.
        relations: Between ``instances``; None is the heuristic.

    Returns:
        Instances in the order of their acceptance, ids from 1, then stuff by category.

    Raises:
        ValueError: A score is NaN, or a label is no thing category.
    """
    if not semantic.flags.f_contiguous:
        semantic = np.ascontiguousarray(semantic)
    painted = np.zeros_like(semantic, np.min_scalar_type(len(instances)))
    order = _by_score(instances, options, num_things)
    edges = [] if relations is None else relations.edges
    areas = _paint_things(painted, instances, order=order, edges=edges, options=options)
    if edges and options.order == "topological":
        _repaint(painted, instances, areas, paint_order(list(areas), edges))
    things = _describe(painted, instances, areas)
    return _add_stuff(
        things, painted, semantic, num_things=num_things, limit_px=stuff_area_limit_px
    )


def paint_order(by_score: Sequence[int], edges: Sequence[tuple[int, int]]) -> list[int]:
    """Order instances from bottom to top so that no relation is broken without need.

    The weakest relation that lies on a circle is dropped until there is no circle. Among the
    instances that may come next, the one of the lowest score does. The edges are ``(upper,
    lower)``, the clearest first; those of other instances than ``by_score`` are ignored.
    """
    known = set(by_score)
    edges = [edge for edge in edges if known.issuperset(edge)]
    lower = _lower(edges)
    for upper, below in reversed(edges):
        if _lies_over(below, upper, lower):
            del lower[upper][below]
    waiting, painted = list(by_score), dict[int, None]()
    while waiting:
        last = next(k for k in reversed(waiting) if lower.get(k, {}).keys() <= painted.keys())
        waiting.remove(last)
        painted[last] = None
    return list(painted)


def _lower(edges: Sequence[tuple[int, int]]) -> dict[int, dict[int, None]]:
    """The instances directly below each one, in the order of the edges."""
    lower: dict[int, dict[int, None]] = {}
    for upper, below in edges:
        lower.setdefault(upper, {})[below] = None
    return lower


def _lies_over(start: int, goal: int, lower: Mapping[int, Mapping[int, None]]) -> bool:
    """Whether relations lead down from one instance to the other."""
    seen, open_ends = {start}, [start]
    while open_ends:
        found = lower.get(open_ends.pop(), {}).keys() - seen
        seen |= found
        open_ends.extend(found)
    return goal in seen


def _by_score(instances: Sequence[Instance], options: MergeOptions, num_things: int) -> list[int]:
    for instance in instances:
        if math.isnan(instance.score):
            raise ValueError("an instance has the score NaN")
        if not 0 <= instance.label < num_things:
            raise ValueError(f"label {instance.label}: expected 0 to {num_things - 1}, a thing")
    kept = [k for k, i in enumerate(instances) if i.score >= options.score_thresh]
    return sorted(kept, key=lambda k: -instances[k].score)


def _paint_things(
    segment_map: np.ndarray,
    instances: Sequence[Instance],
    *,
    order: Sequence[int],
    edges: Sequence[tuple[int, int]],
    options: MergeOptions,
) -> dict[int, int]:
    """Positions of the accepted instances, in that order (their ids), and their areas."""
    lower = _lower(edges)
    ids: dict[int, int] = {}
    areas: dict[int, int] = {}
    for k in order:
        crop = instances[k].crop
        below = [j for j in lower.get(k, ()) if j in ids]
        view = segment_map[crop.slices]
        free = view == 0
        free &= crop.mask
        gains = [(view, free)]
        for j in below:  # what is left of it inside the mask
            rows, columns, both = shared_window(crop, instances[j].crop)
            part = segment_map[rows, columns]
            gains.append((part, both & (part == ids[j])))
        counts = [int(np.count_nonzero(gain)) for _, gain in gains]
        if _is_left_out(sum(counts), int(np.count_nonzero(crop.mask)), options):
            continue
        ids[k], areas[k] = len(ids) + 1, sum(counts)
        for part, gain in gains:
            np.copyto(part, ids[k], where=gain)
        for j, count in zip(below, counts[1:], strict=True):
            areas[j] -= count
    return areas


def _is_left_out(area: int, mask_area: int, options: MergeOptions) -> bool:
    if area == 0:
        return True
    if options.overlap_rule == "visible":
        return area / mask_area <= options.overlap_thresh
    # divided, not multiplied: a share of exactly the limit must come out as the limit
    return (mask_area - area) / mask_area > options.overlap_thresh


def _repaint(
    segment_map: np.ndarray, instances: Sequence[Instance], areas: dict[int, int], order: list[int]
) -> None:
    """Distribute the accepted instances' pixels again, in one order, and correct their areas."""
    segment_map.fill(0)
    ids = {k: number for number, k in enumerate(areas, start=1)}
    # from the top down, each gets what is free: painting bottom up, but no area needs correcting
    for k in reversed(order):
        crop = instances[k].crop
        view = segment_map[crop.slices]
        free = crop.mask & (view == 0)
        areas[k] = int(np.count_nonzero(free))
        np.copyto(view, ids[k], where=free)


def _describe(
    segment_map: np.ndarray, instances: Sequence[Instance], areas: Mapping[int, int]
) -> list[Segment]:
    """The segments that have pixels, numbered without gaps in map and list."""
    left = [(instances[k], area) for k, area in areas.items() if area]
    if len(left) < len(areas):
        has_pixels = np.array([False, *areas.values()], bool)
        numbers = np.where(has_pixels, np.cumsum(has_pixels), 0).astype(np.int32)
        segment_map[:] = numbers[segment_map]
    return [
        Segment(id=number, category=i.label, is_thing=True, area=area, score=i.score)
        for number, (i, area) in enumerate(left, start=1)
    ]


def _add_stuff(
    things: Sequence[Segment],
    painted: np.ndarray,
    semantic: np.ndarray,
    *,
    num_things: int,
    limit_px: int,
) -> PanopticRuns:
    """The things that are painted, and the stuff where they are not."""
    size, by_column = (painted.shape[0], painted.shape[1]), painted.flags.f_contiguous
    owners, below = painted.ravel("K"), semantic.ravel("K")
    is_last = np.empty(len(owners), bool)
    np.not_equal(owners[1:], owners[:-1], out=is_last[:-1])
    is_last[:-1] |= below[1:] != below[:-1]
    side = size[0] if by_column else size[1]
    is_last[side - 1 :: side] = True
    stops = np.flatnonzero(is_last)
    lengths = np.diff(stops, prepend=-1)
    owners, below = owners[stops], below[stops]
    areas = np.bincount(below, lengths * (owners == 0), IGNORE_INDEX + 1)
    areas[:num_things] = areas[IGNORE_INDEX] = 0
    categories = np.flatnonzero(areas >= max(limit_px, 1)).tolist()
    ids = np.zeros(len(areas), np.int32)
    ids[categories] = np.arange(len(categories)) + len(things) + 1
    stuff = [
        Segment(id=int(ids[c]), category=c, is_thing=False, area=int(areas[c])) for c in categories
    ]
    return PanopticRuns(
        values=np.where(owners, owners, ids[below]),
        lengths=lengths,
        size=size,
        by_column=by_column,
        segments=(*things, *stuff),
    )
