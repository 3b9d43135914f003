"""The table of categories that people write: CSV, or COCO's list in JSON."""

import csv
import re
from pathlib import Path
from typing import Any

from refine.categories import CategoryTable
from refine.coco_format.json_entries import parse_json, read_bytes
from refine.errors import RefineError

_COLUMNS = ("name", "isthing", "id", "color", "supercategory")
_NEEDED = _COLUMNS[:2]


def load_categories(path: Path) -> CategoryTable:
    """Read ``FILE.csv``, or the ``categories`` of any JSON in COCO's form.

    A CSV has a header with ``name`` and ``isthing`` (1 or 0), and perhaps ``id`` (else rows are
    numbered from 1), ``color`` (``#RRGGBB``) and ``supercategory``.

    Raises:
        RefineError: Missing, malformed, or a name or an id stands twice.
    """
    data, source = read_bytes(path), str(path)
    entries = _parse_csv(data, source) if path.suffix.lower() == ".csv" else _parse(data, source)
    table = CategoryTable.of(entries, source=source)
    names = [c.name for c in table.categories]
    for name in names:
        if names.count(name) > 1:
            raise RefineError(f"{source}: category {name!r} stands twice; keep one")
    return table


def _parse(data: bytes, source: str) -> list[Any]:
    content = parse_json(data, source=source)
    entries = content.get("categories") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise RefineError(f"{source}: no list of categories; give a CSV, or COCO's 'categories'")
    return entries


def _parse_csv(data: bytes, source: str) -> list[dict[str, Any]]:
    try:
        lines = data.decode("utf-8-sig").splitlines()
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise RefineError(f"{source}: no CSV in UTF-8 ({error}); save it as such") from None
    header = rows[0] if rows else []
    unknown = [name for name in header if name not in _COLUMNS]
    if unknown or not set(_NEEDED) <= set(header) or len(set(header)) < len(header):
        raise RefineError(
            f"{source}: its first line is {','.join(header)!r:.80}; expected name,isthing and "
            "perhaps id,color,supercategory"
        )
    entries = []
    for number, row in enumerate(rows[1:], start=1):
        where = f"{source}: category {number} ({','.join(row)!r:.60})"
        if len(row) != len(header):
            raise RefineError(f"{where} has {len(row)} values; the header has {len(header)} names")
        cells = {key: cell for key, cell in zip(header, row, strict=True) if cell}
        entries.append(_to_entry({"id": str(number)} | cells, where))
    return entries


def _to_entry(cells: dict[str, str], where: str) -> dict[str, Any]:
    """One of COCO's categories."""
    entry: dict[str, Any] = dict(cells)
    for key in ("id", "isthing"):
        if not re.fullmatch(r"[0-9]{1,18}", cells.get(key, "")):
            raise RefineError(f"{where}: {key} is {cells.get(key, '')!r}; expected a number")
        entry[key] = int(cells[key])
    if "color" in cells:
        if not re.fullmatch("#[0-9a-fA-F]{6}", cells["color"]):
            raise RefineError(f"{where}: color is {cells['color']!r:.20}; expected #RRGGBB")
        entry["color"] = [*bytes.fromhex(cells["color"][1:])]
    return entry
