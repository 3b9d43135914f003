"""The categories of a dataset that are used: some kept, some united, all others void."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from refine.categories import Category, CategoryTable
from refine.errors import RefineError
from refine.ops.arrays import find_label_runs
from refine.options import CategoryOptions
from refine.types import PanopticPrediction, Segment


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CategoryChoice:
    """What becomes of the categories of a table.

    Attributes:
        table: The categories that remain.
        targets: ``[C]`` int64: for each category of the old table its id in ``table``, -1 for void.
    """

    table: CategoryTable
    targets: np.ndarray

    def map(self, segments: Iterable[Segment]) -> list[Segment]:
        """Segments with their new categories, -1 for void."""
        categories = [int(self.targets[s.category]) for s in segments]
        return [
            replace(s, category=c, is_thing=self.table.is_thing(c))
            for s, c in zip(segments, categories, strict=True)
        ]

    def apply(self, prediction: PanopticPrediction) -> PanopticPrediction:
        """A prediction in the old categories, in the new ones."""
        segments, renamed = unite_segments(self.map(prediction.segments))
        segment_map = rename_segments(prediction.segment_map, renamed)
        return PanopticPrediction(segment_map=segment_map, segments=segments)

    def describe(self, old: CategoryTable) -> str:
        """One line: what remains of the old table, and what becomes void."""
        void = [
            c.name for c, target in zip(old.categories, self.targets, strict=True) if target < 0
        ]
        more = f" and {len(void) - 6} more" if len(void) > 6 else ""
        things = self.table.num_things
        return (
            f"{len(old)} categories became {len(self.table)} ({things} things, "
            f"{len(self.table) - things} stuff); void: {', '.join(void[:6]) or 'none'}{more}"
        )


def choose_categories(
    old: CategoryTable, options: CategoryOptions, *, source: str
) -> CategoryChoice | None:
    """The choice that the options ask for; None if they ask for none.

    A category that unites others has the dataset id and the color of the first of them.

    Args:
        old: Categories of the dataset.
        options: Names of categories (with ``by=supercategory`` of supercategories).
        source: File name for messages.

    Raises:
        RefineError: An unknown name, a name used twice, or things united with stuff.
    """
    if options == CategoryOptions():
        return None
    label = "supercategory" if options.by == "supercategory" else "name"
    merge: dict[str, list[str]] = options.merge or {}
    groups: dict[str, list[str]] = {}  # new name to old ones
    old_names = [getattr(c, label) for c in old.categories]
    for name in options.keep or ([] if merge else dict.fromkeys(old_names)):
        groups[name] = [name]
    for name, members in merge.items():
        if name in groups:
            raise RefineError(f"data.categories: {name!r} is in keep and in merge; choose one")
        groups[name] = members
    members = [member for parts in groups.values() for member in parts]
    for name in members:
        if name not in old_names:
            close = difflib.get_close_matches(name, old_names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise RefineError(f"data.categories: {source} has no {label} {name!r}{hint}")
        if members.count(name) > 1:
            raise RefineError(f"data.categories: {name!r} is named twice; name it once")
    united = {}
    for name, parts in groups.items():
        found = [c for c in old.categories if getattr(c, label) in parts]
        if len({c.is_thing for c in found}) > 1:
            raise RefineError(
                f"data.categories: {name!r} would unite things and stuff "
                f"({found[0].name!r}, {found[-1].name!r}); choose one kind with merge"
            )
        united[name] = replace(found[0], name=name)
    return _make_choice(old, groups, united, old_names)


def _make_choice(
    old: CategoryTable,
    groups: dict[str, list[str]],
    united: dict[str, Category],
    old_names: Sequence[str],
) -> CategoryChoice:
    table = CategoryTable(list(united.values()))
    new_name = {member: name for name, parts in groups.items() for member in parts}
    targets = np.full(len(old), -1, dtype=np.int64)
    for k, name in enumerate(old_names):
        if name in new_name:
            target = table.to_contiguous(united[new_name[name]].dataset_id)
            targets[k] = -1 if target is None else target
    return CategoryChoice(table=table, targets=targets)


def unite_segments(segments: Iterable[Segment]) -> tuple[tuple[Segment, ...], dict[int, int]]:
    """The segments of one image that remain, and new ids (0: void) of those that do not.

    Category -1 is void. Things and crowds remain by themselves. Stuff of one category is one
    segment, which has the id of the first of its parts and all their pixels.
    """
    kept: list[Segment] = []
    places: dict[int, int] = {}  # of stuff, by category
    renamed = {}
    for segment in segments:
        place = len(kept)
        if not segment.is_thing and not segment.is_crowd:
            place = places.setdefault(segment.category, place)
        if segment.category < 0:
            renamed[segment.id] = 0
        elif place < len(kept):
            first = kept[place]
            kept[place] = replace(first, area=first.area + segment.area)
            renamed[segment.id] = first.id
        else:
            kept.append(segment)
    return tuple(kept), renamed


def rename_segments(segment_map: np.ndarray, renamed: dict[int, int]) -> np.ndarray:
    """A ``[H, W]`` map with new ids for some segments; all other ids stay."""
    if not renamed:
        return segment_map
    old, new = (np.array(column) for column in zip(*sorted(renamed.items()), strict=True))
    values, lengths = find_label_runs(segment_map)
    places = np.searchsorted(old, values).clip(max=len(old) - 1)
    values = np.where(old[places] == values, new[places], values).astype(segment_map.dtype)
    return np.repeat(values, lengths).reshape(segment_map.shape)
