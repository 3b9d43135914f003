"""Tables as Markdown, LaTeX (booktabs), CSV and JSON."""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from refine.report.paper import read_content
from refine.report.tables import Figure, Row, Table

NOTHING = "—"
MISPRINT = "†"

LEGEND = (
    "Ours: mean ± standard deviation over seeds, [95 % interval over images]. "
    f"Δ: a difference whose interval includes 0 may be none. {MISPRINT} a misprint of the paper; "
    f"{NOTHING} not run or not printed."
)

_LATEX = {"±": r"$\pm$", "†": r"$^\dagger$", "—": "--", "Δ": r"$\Delta$"}


def to_markdown(tables: Sequence[Table]) -> str:
    """Pipe tables under headings, aligned for reading as plain text too."""
    blocks = []
    for table in tables:
        cells = to_cells(table)
        sides = ("left", *["right"] * (len(cells.columns) - 1))
        body = cells.to_markdown(index=False, colalign=sides, disable_numparse=True)
        notes = "\n".join(f"- {line}" for line in describe_notes(table))
        blocks += [f"## {table.title}", table.caption, body, *([notes] if notes else [])]
    return "\n\n".join([*blocks, LEGEND]) + "\n"


def to_latex(tables: Sequence[Table]) -> str:
    r"""One ``table`` each, for a document with ``\usepackage{booktabs}``."""
    blocks = [r"% needs \usepackage{booktabs}"]
    for table in tables:
        cells = to_cells(table)
        caption = re.sub(r"([_&%#$])", r"\\\1", f"{table.title}. {table.caption}")
        form = "l" + "r" * (len(cells.columns) - 1)
        text = cells.to_latex(index=False, escape=True, caption=caption, column_format=form)
        for character, code in _LATEX.items():
            text = text.replace(character, code)
        blocks += [text.rstrip(), *(f"% {line}" for line in describe_notes(table))]
    return "\n".join([*blocks, f"% {LEGEND}"]) + "\n"


def to_csv(tables: Sequence[Table]) -> str:
    """A line per table, row and metric; fractions, images per second as they are."""
    frame = pd.concat([pd.DataFrame(), *map(to_values, tables)])
    return frame.to_csv(index=False, lineterminator="\n")


def to_json(tables: Sequence[Table]) -> str:
    """The same as objects, with captions and warnings."""
    content = [
        {
            "number": table.paper.number,
            "title": table.title,
            "caption": table.caption,
            "warnings": table.warnings,
            "values": values.where(values.notna(), None).to_dict("records"),
        }
        for table in tables
        for values in [to_values(table).astype(object)]
    ]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


FORMATS = {"markdown": to_markdown, "latex": to_latex, "csv": to_csv, "json": to_json}
"""Writers by name."""


def to_cells(table: Table) -> pd.DataFrame:
    """Text for people; quality times 100.

    A printed and an own column for every metric, then the number of runs and, if a row has one,
    the differences of the first metric to the table's reference row and to the row before.
    """
    names, rows = read_content()["columns"], []
    first = names[table.paper.columns[0]]
    for row in table.rows:
        cells = {"": row.paper.label}
        for key in table.paper.columns:
            mark = MISPRINT if key in row.paper.misprints else ""
            printed = f"{row.paper.printed[key]:.1f}{mark}" if key in row.paper.printed else NOTHING
            cells |= {names[key]: printed, f"{names[key]}, ours": format_figure(row, key)}
        cells["runs"] = str(len(row.runs)) if len(row.runs) else NOTHING
        for name, difference in ((f"Δ {first}", row.difference), ("this part adds", row.added)):
            cells[name] = NOTHING if difference is None else difference.format()
        rows.append(cells)
    frame = pd.DataFrame(rows)
    return frame.drop(columns=[c for c in frame.columns[-2:] if (frame[c] == NOTHING).all()])


def to_values(table: Table) -> pd.DataFrame:
    """Numbers: a line per row and metric; fractions, images per second as they are."""
    keys = table.paper.columns
    return pd.DataFrame([_to_value(table, row, key) for row in table.rows for key in keys])


def _to_value(table: Table, row: Row, key: str) -> dict[str, Any]:
    figure = row.figures.get(key, Figure(math.nan, None, None))
    printed = row.paper.printed.get(key)
    low, high = (figure.interval or (None, None, None))[1:]
    value = {
        "table": table.title,
        "row": row.paper.label,
        "metric": key,
        "paper": None if printed is None else round(printed / _scale(key), 4),
        "is_misprint": key in row.paper.misprints,
        "ours": figure.mean,
        "std": figure.std,
        "low": low,
        "high": high,
    }
    for name, interval in (("difference", row.difference), ("added", row.added)):
        numbers = interval if interval and key == table.paper.columns[0] else (None, None, None)
        value |= dict(zip((name, f"{name}_low", f"{name}_high"), numbers, strict=True))
    notes = "; ".join([*_own_note(row), *row.notes])
    return {**value, "num_runs": len(row.runs), "runs": "; ".join(row.runs["name"]), "notes": notes}


def describe_notes(table: Table) -> list[str]:
    """What is to be said of single rows and of all, a line each."""
    of_rows = [
        f"{row.paper.label}: {note}" for row in table.rows for note in (*_own_note(row), *row.notes)
    ]
    return [*of_rows, *table.warnings]


def format_figure(row: Row, key: str) -> str:
    """Text such as ``56.1 ± 0.4 [54.9, 57.2]``."""
    figure = row.figures.get(key)
    if figure is None:
        return NOTHING
    scale = _scale(key)
    spread = "" if figure.std is None else f" ± {scale * figure.std:.1f}"
    interval = "" if figure.interval is None else figure.interval.format(sign="").partition(" ")[2]
    return f"{scale * figure.mean:.1f}{spread} {interval}".rstrip()


def _own_note(row: Row) -> list[str]:
    mark = f"{MISPRINT} " if row.paper.misprints else ""
    return [f"{mark}{row.paper.note}"] if row.paper.note else []


def _scale(key: str) -> float:
    return 1.0 if key == "images_per_second" else 100.0
