"""Checked reading of the lists of objects that COCO's JSON files are made of.

Values come out as columns (one list or array per key): the objects of COCO's training split would
cost gigabytes, again in every loader process, because reference counts undo copy-on-write.
"""

import gc
import json
import reprlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np

from refine.errors import RefineError, Report, is_printable, refuse

_LONGEST_NAME = 255  # bytes; what file systems take

MAX_ID = 2**62
"""Highest id of an image or an annotation."""


@dataclass(frozen=True, slots=True)
class Entries:
    """A list of JSON objects whose fields are read one key at a time.

    Every bad value goes to ``report``. If that returns, the object is among ``rejected``, and the
    column has a stand-in for the value.

    Attributes:
        items: The objects.
        name: Name of such an object in kinds of problems, like ``segments_info[]``.
        describe: Names object ``k`` in messages, file first.
        report: Takes the problems.
        rejected: Positions of the objects with a bad value.
    """

    items: Sequence[Any]
    name: str
    describe: Callable[[int], str]
    report: Report = refuse
    rejected: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        others = self._others(self.items, {dict})
        for k in others:
            found = f" is {shortened(self.items[k])}; expected an object"
            self.reject(k, "is no object", found)
        if others:
            items = [_NO_OBJECT if k in self.rejected else v for k, v in enumerate(self.items)]
            object.__setattr__(self, "items", items)

    def __len__(self) -> int:
        return len(self.items)

    def reject(self, k: int, kind: str, message: str) -> None:
        """Report a problem of object ``k``; the message is what comes after its name."""
        self.rejected.add(k)
        self.report(f"{self.name} {kind}", self.describe(k) + message)

    def pick(self, order: Sequence[int]) -> "Entries":
        """The objects at these positions; messages keep their names."""
        items = [self.items[k] for k in order]
        return Entries(items, self.name, lambda k: self.describe(order[k]), self.report)

    def without(self, key: str, values: Collection[int]) -> "Entries":
        """The usable objects whose integer ``key`` is none of these values."""
        found = {k: self.items[k].get(key) for k in self.usable()}
        return self.pick([k for k, v in found.items() if type(v) is not int or v not in values])

    def usable(self) -> list[int]:
        """Positions of the objects without a bad value so far."""
        return [k for k in range(len(self.items)) if k not in self.rejected]

    def column(self, key: str, *types: type, default: Any = None) -> list[Any]:
        """The values of ``key``; a problem if one is missing or not exactly of the ``types``.

        With a ``default``, a missing one has this value.
        """
        absent = _ABSENT if default is None else default
        values = [item.get(key, absent) for item in self.items]
        wanted = " or ".join(t.__name__ for t in types)
        for k in self._others(values, set(types)):
            if values[k] is _ABSENT:
                if self.items[k] is not _NO_OBJECT:
                    self.reject(k, f"{key!r} is missing", f": {key!r} is missing; add it")
            else:
                self.reject_value(k, key, f"give it a {wanted}")
            values[k] = types[0]()
        return values

    @staticmethod
    def _others(values: Sequence[Any], types: set[type]) -> list[int]:
        """Positions of the values of other types."""
        if set(map(type, values)) <= types:
            return []
        return [k for k, value in enumerate(values) if type(value) not in types]

    def integers(
        self, key: str, *, low: int = 0, high: int = MAX_ID, default: int | None = None
    ) -> np.ndarray:
        """The values of ``key`` as ``[n]`` int64; a problem if one is not in ``low .. high``."""
        values = self.column(key, int, bool, default=default)
        if values and not (low <= min(values) and max(values) <= high):
            for k, value in enumerate(values):
                if not low <= value <= high:
                    if k not in self.rejected:  # it may stand in for another
                        self.reject_value(k, key, f"it has to lie in {low} .. {high}")
                    values[k] = low
        return np.array(values, dtype=np.int64)

    def file_names(self, key: str) -> np.ndarray:
        """The values of ``key`` as ``[n]`` str; a problem if one would leave its folder."""
        values = self.column(key, str)
        for k, value in enumerate(values):
            if k not in self.rejected and not is_inside(value):
                self.reject_value(k, key, "use a relative path with '/' and without '..'")
                values[k] = ""
        return np.array(values, dtype=np.str_)

    def reject_repeats(self, values: np.ndarray, key: str, where: str) -> None:
        """A problem for every object whose ``[n]`` value of ``key`` an earlier object has."""
        _, first = np.unique(values, return_index=True)
        for k in np.setdiff1d(np.arange(len(values)), first).tolist():
            if k not in self.rejected:
                self.reject_value(k, key, f"{where} has it twice, keep one")

    def reject_value(self, k: int, key: str, fix: str) -> None:
        """Report the value of ``key`` in object ``k``, and how to fix it."""
        self.reject(k, f"{key!r}: {fix}", f": {key!r} is {shortened(self.items[k][key])}; {fix}")


_ABSENT: Any = object()
_NO_OBJECT: dict[str, Any] = {}  # in place of what is none


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

    @classmethod
    def join(cls, rows: Sequence[bytes]) -> Self:
        """Store strings of bytes as uint8."""
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(rows), np.uint8), offsets)

    def __getitem__(self, k: int) -> np.ndarray:
        return self.values[self.offsets[k] : self.offsets[k + 1]]


def is_inside(name: str) -> bool:
    r"""Whether a name from a file stays below the folder (or zip) that it is looked up in.

    Refused on every system alike: the empty name, absolute paths, drives, ``..``, ``\``,
    characters that cannot be printed, and names longer than file systems take.
    """
    if (
        not name
        or "\\" in name
        or not is_printable(name)
        or name.startswith("/")
        or name[1:2] == ":"
    ):
        return False
    parts = name.split("/")
    return ".." not in parts and max(len(part.encode()) for part in parts) <= _LONGEST_NAME


def read_bytes(path: Path) -> bytes:
    """The file's content; a RefineError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise RefineError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def parse_json_object(data: bytes, *, source: str) -> dict[str, Any]:
    """The JSON object in ``data``; a RefineError naming the file ``source`` if there is none."""
    document = parse_json(data, source=source)
    if not isinstance(document, dict):
        raise RefineError(f"{source}: expected a JSON object, not {shortened(document)}")
    return document


def parse_json(data: bytes, *, source: str) -> Any:
    """The value in ``data``; a RefineError naming the file ``source`` if it is no JSON."""
    was_enabled = gc.isenabled()
    gc.disable()  # it would look for garbage in the growing value again and again
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise RefineError(f"{source}: no valid JSON ({reason}); get the file again") from None
    finally:
        if was_enabled:
            gc.enable()


def entries_of(
    document: dict[str, Any], key: str, *, source: str, report: Report = refuse
) -> Entries:
    """The list of objects under ``key``; a RefineError if there is none."""
    items = document.get(key)
    if not isinstance(items, list):
        raise RefineError(f"{source}: {key!r} is missing or no list; give it COCO's list")
    return Entries(items, f"{key}[]", lambda k: f"{source}: {key}[{k}]", report)


def shortened(value: object) -> str:
    """A value in at most 60 characters."""
    text = _REPR.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxlist, _REPR.maxstring, _REPR.maxlong = 3, 8, 60, 60
