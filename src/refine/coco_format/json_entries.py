"""Checked reading of the lists of objects that COCO's JSON files are made of.

Values come out as columns (one list or array per key): the objects of COCO's training split would
cost gigabytes, again in every loader process, because reference counts undo copy-on-write.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np

from refine.errors import RefineError

_MAX_ID = 2**62  # of an image, an annotation or a category


@dataclass(frozen=True, slots=True)
class Entries:
    """A list of JSON objects; ``describe`` names object ``k`` in error messages, file first."""

    items: Sequence[dict[str, Any]]
    describe: Callable[[int], str]

    def __post_init__(self) -> None:
        if not set(map(type, self.items)) <= {dict}:
            k = next(k for k, item in enumerate(self.items) if type(item) is not dict)
            found = _shortened(self.items[k])
            raise RefineError(f"{self.describe(k)} is {found}; expected an object")

    def __len__(self) -> int:
        return len(self.items)

    def pick(self, order: Sequence[int]) -> "Entries":
        """The objects at these positions; error messages keep their names."""
        return Entries([self.items[k] for k in order], lambda k: self.describe(order[k]))

    def column(self, key: str, *types: type) -> list[Any]:
        """The values of ``key``; RefineError if one is missing or not exactly of the ``types``."""
        try:
            values = [item[key] for item in self.items]
        except KeyError:
            k = next(k for k, item in enumerate(self.items) if key not in item)
            raise RefineError(f"{self.describe(k)}: {key!r} is missing; add it") from None
        if not set(map(type, values)) <= set(types):
            k = next(k for k, value in enumerate(values) if type(value) not in types)
            wanted = " or ".join(t.__name__ for t in types)
            raise self.error(k, key, f"give it a {wanted}")
        return values

    def integers(self, key: str, *, low: int = 0, high: int = _MAX_ID) -> np.ndarray:
        """The values of ``key`` as ``[n]`` int64; RefineError if one is not in ``low .. high``."""
        values = self.column(key, int, bool)
        if values and not (low <= min(values) and max(values) <= high):
            k = next(k for k, value in enumerate(values) if not low <= value <= high)
            raise self.error(k, key, f"it has to lie in {low} .. {high}")
        return np.array(values, dtype=np.int64)

    def file_names(self, key: str) -> np.ndarray:
        """The values of ``key`` as ``[n]`` str; RefineError if one would leave its folder."""
        values = self.column(key, str)
        for k, value in enumerate(values):
            if not is_inside(value):
                raise self.error(k, key, "use a relative path with '/' and without '..'")
        return np.array(values, dtype=np.str_)

    def error(self, k: int, key: str, fix: str) -> RefineError:
        """The error that shows the value of ``key`` in object ``k`` and says how to fix it."""
        value = _shortened(self.items[k][key])
        return RefineError(f"{self.describe(k)}: {key!r} is {value}; {fix}")


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """Rows of any lengths in one array: ``values[offsets[k] : offsets[k + 1]]`` is row ``k``."""

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def pack(cls, rows: Sequence[Sequence[float]], dtype: type) -> Self:
        """Store ``rows`` as numbers of type ``dtype``."""
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        values: np.ndarray = np.fromiter(chain.from_iterable(rows), dtype, count=int(offsets[-1]))
        return cls(values, offsets)

    def __getitem__(self, k: int) -> np.ndarray:
        return self.values[self.offsets[k] : self.offsets[k + 1]]


def is_inside(name: str) -> bool:
    r"""Whether a name from a file stays below the folder (or zip) that it is looked up in.

    Refused on every system alike: the empty name, absolute paths, drives, ``..`` and ``\``.
    """
    if not name or "\\" in name or "\0" in name or name.startswith("/") or name[1:2] == ":":
        return False
    return ".." not in name.split("/")


def read_bytes(path: Path) -> bytes:
    """The file's content; a RefineError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise RefineError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def parse_json_object(data: bytes, *, source: str) -> dict[str, Any]:
    """The JSON object in ``data``; a RefineError naming the file ``source`` if there is none."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise RefineError(f"{source}: no valid JSON ({reason}); get the file again") from None
    if not isinstance(document, dict):
        raise RefineError(f"{source}: expected a JSON object, not {_shortened(document)}")
    return document


def entries_of(document: dict[str, Any], key: str, *, source: str) -> Entries:
    """The list of objects under ``key``; a RefineError if there is none."""
    items = document.get(key)
    if not isinstance(items, list):
        raise RefineError(f"{source}: {key!r} is missing or no list; give it COCO's list")
    return Entries(items, lambda k: f"{source}: {key}[{k}]")


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
