"""Checked reading of the lists of objects that COCO's JSON files are made of.

Values come out as columns (one list or array a key): the objects of COCO's training split would
cost gigabytes, again in every loader process, because reference counts undo copy-on-write.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refine.errors import RefineError


@dataclass(frozen=True, slots=True)
class Entries:
    """A list of JSON objects.

    Attributes:
        items: The objects.
        describe: Names object ``k`` in messages, file first.
    """

    items: Sequence[dict[str, Any]]
    describe: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.items)

    def column(self, key: str, *types: type) -> list[Any]:
        """The values of ``key``, all of one of the ``types`` exactly.

        Raises:
            RefineError: An object lacks the key or holds another type.
        """
        try:
            values = [item[key] for item in self.items]
        except KeyError:
            k = next(k for k, item in enumerate(self.items) if key not in item)
            raise RefineError(f"{self.describe(k)}: {key!r} is missing; add it") from None
        if not set(map(type, values)) <= set(types):
            k = next(k for k, value in enumerate(values) if type(value) not in types)
            wanted = " or ".join(t.__name__ for t in types)
            raise self.error(k, key, values[k], f"give it a {wanted}")
        return values

    def integers(self, key: str, *, low: int, high: int) -> np.ndarray:
        """The values of ``key`` as ``[n]`` int64, each in ``low .. high``.

        Raises:
            RefineError: A value is missing, no integer or out of range.
        """
        values = self.column(key, int, bool)
        if values and not (low <= min(values) and max(values) <= high):
            k = next(k for k, value in enumerate(values) if not low <= value <= high)
            raise self.error(k, key, values[k], f"it has to lie in {low} .. {high}")
        return np.array(values, dtype=np.int64)

    def file_names(self, key: str) -> np.ndarray:
        """The values of ``key`` as ``[n]`` str, each a relative path with forward slashes.

        Raises:
            RefineError: A value is missing or would leave the folder it is looked up in.
        """
        values = self.column(key, str)
        for k, value in enumerate(values):
            if not is_inside(value):
                raise self.error(k, key, value, "use a relative path with '/' and without '..'")
        return np.array(values, dtype=np.str_)

    def error(self, k: int, key: str, value: object, mend: str) -> RefineError:
        """The error that names value ``value`` of object ``k`` and what to do about it."""
        return RefineError(f"{self.describe(k)}: {key!r} is {_shortened(value)}; {mend}")


def is_inside(name: str) -> bool:
    r"""Whether a name from a file stays below the folder (or zip) that it is looked up in.

    Refused on every system alike: the empty name, absolute paths, drives, ``..`` and ``\``.
    """
    if not name or "\\" in name or "\0" in name or name.startswith("/") or name[1:2] == ":":
        return False
    return ".." not in name.split("/")


def read_bytes(path: Path) -> bytes:
    """The file's content.

    Raises:
        RefineError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise RefineError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def parse_json_object(data: bytes, *, source: str) -> dict[str, Any]:
    """The JSON object in ``data``.

    Raises:
        RefineError: Malformed or truncated JSON, or no object.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise RefineError(f"{source}: no valid JSON ({reason}); get the file again") from None
    if not isinstance(document, dict):
        raise RefineError(f"{source}: expected a JSON object, not {_shortened(document)}")
    return document


def entries_of(document: dict[str, Any], key: str, *, source: str) -> Entries:
    """The list of objects under ``key``.

    Raises:
        RefineError: It is missing, no list, or holds something other than objects.
    """
    items = document.get(key)
    if not isinstance(items, list):
        raise RefineError(f"{source}: {key!r} is missing or no list; give it COCO's list")
    if not set(map(type, items)) <= {dict}:
        k = next(k for k, item in enumerate(items) if type(item) is not dict)
        raise RefineError(f"{source}: {key}[{k}] is {_shortened(items[k])}; expected an object")
    return Entries(items, lambda k: f"{source}: {key}[{k}]")


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
