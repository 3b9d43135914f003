"""Segment maps out of outlines that overlap, and out of maps of keys."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from refine.categories import CategoryTable
from refine.layouts.annotated_images import Shape
from refine.ops.arrays import find_label_runs
from refine.types import IGNORE_INDEX, Segment

OVERLAPS = ("smaller", "later", "earlier")
"""Which of two overlapping outlines lies on top: see :func:`order_shapes`."""


class Key(NamedTuple):
    """What a key in a map of keys stands for."""

    category: int
    is_crowd: bool = False


def order_shapes(shapes: Sequence[Shape], overlaps: str, *, num_things: int) -> list[int]:
    """Positions of the shapes from bottom to top.

    Crowds lie below all others. Of the others, with ``smaller``, stuff lies below things, and of
    either the shape of fewer pixels is on top, of equal ones the later; with ``later`` and
    ``earlier`` it is that place in the file alone which decides, for things and stuff alike.
    """
    places = list(range(len(shapes)))
    if overlaps == "earlier":
        places.reverse()

    def level(k: int) -> tuple[int, int, int]:
        shape = shapes[k]
        if overlaps != "smaller":
            return (int(not shape.is_crowd), 0, 0)
        is_thing = shape.category < num_things
        above_crowds = int(not shape.is_crowd)
        return (above_crowds, int(is_thing), -int(np.count_nonzero(shape.crop.mask)))

    return sorted(places, key=level)


def paint_shapes(
    shapes: Sequence[Shape], stuff: np.ndarray, *, overlaps: str, categories: CategoryTable
) -> tuple[np.ndarray, tuple[Segment, ...], Counter[str]]:
    """The segment map, its segments, and how many things are hidden by others.

    Args:
        shapes: Outlines in the order of the file; stuff of one category becomes one segment.
        stuff: ``[H, W]`` uint8 categories below the shapes; 255 is void, and so are things, of
            which a map of categories does not say whose they are.
        overlaps: One of :data:`OVERLAPS`.
        categories: The categories of the dataset.
    """
    num_things, first_stuff = categories.num_things, len(shapes) + 1
    is_known = (stuff >= num_things) & (stuff != IGNORE_INDEX)
    keys = np.where(is_known, stuff.astype(np.int32) + first_stuff, 0)
    known = {first_stuff + c: Key(c) for c in range(num_things, len(categories))}
    for k in order_shapes(shapes, overlaps, num_things=num_things):
        shape = shapes[k]
        is_instance = shape.category < num_things
        key = k + 1 if is_instance else first_stuff + shape.category
        keys[shape.crop.slices][shape.crop.mask] = key
        if is_instance:
            known[key] = Key(shape.category, shape.is_crowd)
    segment_map, segments = number_segments(keys, known.get, num_things=num_things)
    of_things = sum(shape.category < num_things for shape in shapes)
    notes = Counter({"things hidden by others": of_things - sum(s.is_thing for s in segments)})
    is_thing = (stuff < num_things) & (keys == 0)
    notes["pixels of things that belong to no instance"] = int(np.count_nonzero(is_thing))
    return segment_map, segments, notes


def number_segments(
    keys: np.ndarray, explain: Callable[[int], Key | None], *, num_things: int
) -> tuple[np.ndarray, tuple[Segment, ...]]:
    """A ``[H, W]`` map of keys with segment ids from 1 on instead.

    ``explain`` says what a key stands for; without an answer it becomes void. Segments come in
    ascending order of their keys.
    """
    values, lengths = find_label_runs(keys)
    present, places = np.unique(values, return_inverse=True)
    areas = np.bincount(places, weights=lengths).astype(np.int64)
    ids, segments = np.zeros(len(present), np.int32), list[Segment]()
    for k, (key, area) in enumerate(zip(present.tolist(), areas.tolist(), strict=True)):
        if (found := explain(key)) is not None:
            ids[k] = len(segments) + 1
            category, is_crowd = found
            is_thing = category < num_things
            flags = {"is_thing": is_thing, "is_crowd": is_crowd}
            segments.append(Segment(id=len(segments) + 1, category=category, area=area, **flags))
    return np.repeat(ids[places], lengths).reshape(keys.shape), tuple(segments)
