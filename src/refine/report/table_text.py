"""Tables as Markdown, CSV, LaTeX (booktabs) and JSON."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from refine.report.ablation import Figure, Row, Table
from refine.report.bootstrap import Interval
from refine.report.paper import NAMES

NOTHING = "—"
MISPRINT = "†"

LEGEND = (
    "Ours: mean ± standard deviation over seeds, [95 % interval over images]; "
    f"{MISPRINT} a misprint of the paper; {NOTHING} not run or not printed."
)

_LATEX = {
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "—": "--",
    "Δ": r"$\Delta$",
}


def to_markdown(tables: Sequence[Table]) -> str:
    """Pipe tables under headings, aligned for reading as plain text too."""
    blocks = []
    for table in tables:
        header, rows = to_cells(table)
        blocks += [f"## {table.title}", "", table.caption, "", *_pipes([header, *rows]), ""]
        blocks += [f"- {line}" for line in describe_notes(table)]
        blocks += [""] if blocks[-1] else []
    return "\n".join([*blocks, LEGEND]) + "\n"


def to_latex(tables: Sequence[Table]) -> str:
    r"""One ``tabular`` a table, for a document with ``\usepackage{booktabs}``."""
    lines = ["% needs \\usepackage{booktabs}"]
    for table in tables:
        header, rows = to_cells(table)
        escaped = [[_escape_latex(cell) for cell in row] for row in (header, *rows)]
        head, *body = [" & ".join(row) + r" \\" for row in escaped]
        notes = [f"% {line}" for line in describe_notes(table)]
        lines += [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escape_latex(f'{table.title}. {table.caption}')}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            *notes,
        ]
    return "\n".join([*lines, f"% {LEGEND}"]) + "\n"


def to_csv(tables: Sequence[Table]) -> str:
    """A line a table, row and metric; fractions, images per second as they are."""
    target = io.StringIO()
    names = list(_RECORD_KEYS)
    writer = csv.DictWriter(target, names, lineterminator="\n")
    writer.writeheader()
    for table in tables:
        for row in table.rows:
            common = {"table": table.title, "row": row.paper.label, "notes": "; ".join(row.notes)}
            writer.writerows({**common, **record} for record in _records(table, row))
    return target.getvalue()


def to_json(tables: Sequence[Table]) -> str:
    """The same as nested objects."""
    content = [
        {
            "number": table.paper.number,
            "title": table.title,
            "caption": table.caption,
            "warnings": list(table.warnings),
            "rows": [
                {
                    "label": row.paper.label,
                    "runs": [entry.name for entry in row.entries],
                    "metrics": list(_records(table, row)),
                    "notes": [*_paper_note(row), *row.notes],
                }
                for row in table.rows
            ],
        }
        for table in tables
    ]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {
    "markdown": to_markdown,
    "csv": to_csv,
    "latex": to_latex,
    "json": to_json,
}
"""Writers by name."""

_RECORD_KEYS = (
    "table",
    "row",
    "metric",
    "paper",
    "is_misprint",
    "ours",
    "std",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
    "num_runs",
    "notes",
)


def to_cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and rows of text; quality times 100.

    A printed and an own column for every metric, then the number of runs and, if a row has one,
    the difference of the first metric to the table's reference row.
    """
    columns = table.paper.columns
    header = ["", *(text for key in columns for text in (NAMES[key], "ours")), "runs"]
    is_compared = any(row.difference is not None for row in table.rows)
    if is_compared:
        header.append(f"Δ {NAMES[columns[0]]}")
    rows = []
    for row in table.rows:
        cells = [row.paper.label]
        for key in columns:
            cells += [_printed(row, key), format_figure(row.figures.get(key), key)]
        cells.append(str(len(row.entries)) if row.entries else NOTHING)
        rows.append([*cells, *([format_interval(row.difference)] if is_compared else [])])
    return header, rows


def describe_notes(table: Table) -> list[str]:
    """What is to be said of single rows and of all, a line each."""
    of_rows = [
        f"{row.paper.label}: {note}"
        for row in table.rows
        for note in (*_paper_note(row), *row.notes)
    ]
    return [*of_rows, *table.warnings]


def format_figure(figure: Figure | None, key: str) -> str:
    """Such as ``56.1 ± 0.4 [54.9, 57.2]``."""
    if figure is None:
        return NOTHING
    scale = _scale(key)
    text = f"{scale * figure.mean:.1f}"
    if figure.std is not None:
        text += f" ± {scale * figure.std:.1f}"
    if figure.interval is not None:
        text += f" [{scale * figure.interval.low:.1f}, {scale * figure.interval.high:.1f}]"
    return text


def format_interval(difference: Interval | None) -> str:
    """Such as ``+1.2 [+0.3, +2.0]``, times 100."""
    if difference is None:
        return NOTHING
    value, low, high = (100 * v for v in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _printed(row: Row, key: str) -> str:
    if key not in row.paper.printed:
        return NOTHING
    mark = MISPRINT if key in row.paper.doubtful else ""
    return f"{row.paper.printed[key]:.1f}{mark}"


def _paper_note(row: Row) -> list[str]:
    if not row.paper.note:
        return []
    return [f"{MISPRINT} {row.paper.note}" if row.paper.doubtful else row.paper.note]


def _scale(key: str) -> float:
    return 1.0 if key == "images_per_second" else 100.0


def _records(table: Table, row: Row) -> list[dict[str, Any]]:
    return [
        _record(row, key, is_first=key == table.paper.columns[0]) for key in table.paper.columns
    ]


def _record(row: Row, key: str, *, is_first: bool) -> dict[str, Any]:
    figure, printed = row.figures.get(key), row.paper.printed.get(key)
    record: dict[str, Any] = {
        "metric": key,
        "paper": None if printed is None else round(printed / _scale(key), 4),
        "is_misprint": key in row.paper.doubtful,
        "num_runs": len(row.entries),
    }
    if figure is not None:
        record |= {"ours": figure.mean, "std": figure.std}
        record |= _ends(figure.interval, "")
    if is_first and row.difference is not None:
        record |= {"difference": row.difference.value, **_ends(row.difference, "difference_")}
    return record


def _ends(interval: Interval | None, prefix: str) -> Mapping[str, float]:
    return (
        {} if interval is None else {f"{prefix}low": interval.low, f"{prefix}high": interval.high}
    )


def _pipes(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = ["-" * width if k == 0 else "-" * (width - 1) + ":" for k, width in enumerate(widths)]
    return [lines[0], "| " + " | ".join(rule) + " |", *lines[1:]]


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
