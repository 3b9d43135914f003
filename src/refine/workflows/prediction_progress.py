"""What a prediction of many images has finished, so that an interrupted one can go on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refine.atomic import write_text
from refine.config.flatten import flatten
from refine.errors import RefineError

_FILE = "progress.jsonl"


class Progress:
    """``OUT/progress.jsonl``: a line with the settings, then one for each finished image.

    Attributes:
        entries: What is known of each finished image, by its name in the source.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        """Read what an interrupted prediction of the same settings has left in ``out``.

        Raises:
            RefineError: It was one of other settings.
        """
        self._path = out / _FILE
        wanted = json.loads(json.dumps(flatten(settings)))
        lines = self._path.read_bytes().splitlines() if self._path.is_file() else []
        rows = [row for row in map(_parse, lines) if row is not None]  # the last may be cut
        if rows:
            self._require_same(rows[0], wanted)
        self.entries: dict[str, dict[str, Any]] = {row["name"]: row for row in rows[1:]}
        write_text(self._path, _to_lines([wanted, *self.entries.values()]))

    def add(self, name: str, entry: Mapping[str, Any]) -> None:
        """Note that the files of an image are whole."""
        self.entries[name] = {"name": name, **entry}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_to_lines([self.entries[name]]))

    def remove(self) -> None:
        """Everything is done."""
        self._path.unlink()

    def _require_same(self, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        for key in sorted(found.keys() | wanted.keys()):
            old, new = found.get(key), wanted.get(key)
            if old != new:
                raise RefineError(
                    f"{self._path}: an interrupted prediction with {key}={_shorten(old)}, now "
                    f"{_shorten(new)}; choose another out=FOLDER, or delete the file to start anew"
                )


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _to_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def _shorten(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
