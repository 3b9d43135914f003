"""Pieces of HTML that several sections are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell.

    Attributes:
        text: Shown.
        order: What it is sorted by; None goes last in either direction, ``""`` is by its text.
        markup: Shown instead of the text.
    """

    text: str
    order: float | str | None = ""
    markup: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page.

    Attributes:
        anchor: Its id.
        title: Its heading.
        body: Its HTML.
    """

    anchor: str
    title: str
    body: str


def paragraph(text: str, *, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def bullets(lines: Sequence[str]) -> str:
    """A list of plain lines; nothing for none."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="notes">{items}</ul>' if lines else ""


def details(summary: str, body: str) -> str:
    """A part that opens on demand."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def sortable_table(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[Cell | str]]
) -> str:
    """A table whose columns sort on a click or by keyboard, and that scrolls by itself.

    Args:
        caption: What it shows, for those who do not see the heading above it.
        header: Column names; an empty one shows "row".
        rows: Cells; plain strings sort as text, or as the number they start with.
    """
    head = "".join(
        f'<th scope="col"><button type="button">{escape(name or "row")}</button></th>'
        for name in header
    )
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    label = escape(caption, quote=True)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
        f'<table class="sortable"><caption class="unseen">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cells(row: Sequence[Cell | str]) -> str:
    cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
    first, *rest = [_cell(cell) for cell in cells]
    return f'<th scope="row"{first}</th>' + "".join(f"<td{text}</td>" for text in rest)


def _cell(cell: Cell) -> str:
    """What stands between the tag's name and its end."""
    content = cell.markup or escape(cell.text)
    if cell.order == "":
        return f">{content}"
    order = "" if cell.order is None else escape(str(cell.order), quote=True)
    return f' data-order="{order}">{content}'
