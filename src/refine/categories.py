"""Categories of a dataset, and the conversion of their ids.

Dataset ids (``category_id`` of the JSON; COCO's are 1..200 with gaps, others begin with 0) live in
files. Everywhere else categories are *contiguous* ids: things ``0 .. num_things - 1``, then stuff,
each group in ascending order of dataset id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import index
from typing import Any

from refine.errors import RefineError, Report, is_printable, refuse

_MAX_ID = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """One category: its id in the JSON (at least 0) and name, and its RGB in 0..255 for drawing.

    ``supercategory`` is its name if the JSON gives none; categories may be equal without.
    """

    dataset_id: int
    name: str
    is_thing: bool
    color: tuple[int, int, int]
    supercategory: str = field(default="", compare=False)


class CategoryTable:
    """The ordered categories of a dataset: things first, then stuff.

    Raises:
        RefineError: No categories, or a dataset id used twice.
    """

    def __init__(self, categories: Sequence[Category]) -> None:
        if not categories:
            raise RefineError("the dataset has no categories; its JSON needs a 'categories' list")
        ordered = sorted(categories, key=lambda c: (not c.is_thing, c.dataset_id))
        self.categories: tuple[Category, ...] = tuple(ordered)
        self._contiguous = {c.dataset_id: k for k, c in enumerate(ordered)}
        if len(self._contiguous) != len(ordered):
            ids = [c.dataset_id for c in ordered]
            twice = sorted({i for i in ids if ids.count(i) > 1})
            raise RefineError(f"category id {twice[0]} stands twice in 'categories'; keep one")
        self.num_things = sum(c.is_thing for c in ordered)

    @classmethod
    def of(
        cls,
        entries: "CategoryTable | Sequence[Mapping[str, Any]]",
        *,
        source: str = "categories",
        report: Report = refuse,
    ) -> "CategoryTable":
        """A table as it is, or that of COCO's list of ``id``, ``name``, ``isthing``, ``color``.

        A category may lack its color. ``source`` is the file name shown in error messages. If
        ``report`` returns, malformed categories are left out.

        Raises:
            RefineError: A missing or malformed field, an empty list, or an id used twice.
        """
        if isinstance(entries, CategoryTable):
            return entries
        categories = []
        for k, entry in enumerate(entries):
            try:
                categories.append(_parse_category(entry))
            except (IndexError, KeyError, TypeError, ValueError) as error:
                found = f"{source}: categories[{k}] is malformed ({error!r:.80})"
                fix = "give it id >= 0, name, isthing (0 or 1) and, optionally, color [r, g, b]"
                report("categories[] is malformed", f"{found}; {fix}")
        try:
            return cls(categories)
        except RefineError as error:
            raise RefineError(f"{source}: {error}") from None

    def to_json(self, *, supercategories: bool = False) -> list[dict[str, Any]]:
        """COCO's ``categories`` list of this table (plain Python values)."""
        entries: list[dict[str, Any]] = [
            {"id": c.dataset_id, "name": c.name, "isthing": int(c.is_thing), "color": [*c.color]}
            for c in self.categories
        ]
        if supercategories:
            for entry, category in zip(entries, self.categories, strict=True):
                entry["supercategory"] = category.supercategory or category.name
        return entries

    def __len__(self) -> int:
        return len(self.categories)

    def __getitem__(self, contiguous: int) -> Category:
        return self.categories[contiguous]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CategoryTable) and self.categories == other.categories

    def __hash__(self) -> int:
        return hash(self.categories)

    def is_thing(self, contiguous: int) -> bool:
        """Whether contiguous id ``contiguous`` is a thing."""
        return 0 <= contiguous < self.num_things

    def to_contiguous(self, dataset_id: int) -> int | None:
        """Contiguous id of a dataset id, or None if the table does not know it."""
        return self._contiguous.get(dataset_id)


def _parse_category(entry: Mapping[str, Any]) -> Category:
    dataset_id, is_thing, name = index(entry["id"]), index(entry["isthing"]), entry["name"]
    if not 0 <= dataset_id <= _MAX_ID or is_thing not in (0, 1):
        raise ValueError(f"id={dataset_id}, isthing={is_thing}")
    if not isinstance(name, str) or not name or not is_printable(name):
        raise ValueError(f"name={name!r}")
    # a category without a colour gets a fixed one: multiplicative hashing spreads neighbouring ids
    hashed = (dataset_id * 2654435761 & 0xFFFFFF).to_bytes(3, "big")
    red, green, blue = (index(v) for v in entry.get("color", [64 + v % 192 for v in hashed]))
    if not all(0 <= v <= 255 for v in (red, green, blue)):
        raise ValueError(f"color={[red, green, blue]}")
    return Category(
        dataset_id=dataset_id,
        name=name,
        is_thing=bool(is_thing),
        color=(red, green, blue),
        supercategory=str(entry.get("supercategory", name)),
    )
