"""Tables 1 to 6 of the paper, read from ``paper_tables.yaml``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """One row.

    Attributes:
        label: Name of the row, in tables and dashboards.
        printed: Values by metric key, times 100 (images per second as they are).
        backbone: Backbone of the row's runs, such as ``r101-dcn``; asked for on COCO only.
        settings: Values of a run's columns (:mod:`refine.report.collect`) that make it belong to
            the row; None if we have no means to run it.
        misprints: Keys of ``printed`` that contradict others.
        note: Remark to be shown with the row.
        adds_to: Label of the row that this one is one part more than.
    """

    label: str
    printed: Mapping[str, float]
    backbone: str | None = None
    settings: Mapping[str, Any] | None = None
    misprints: frozenset[str] = frozenset()
    note: str = ""
    adds_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTable:
    """One table.

    Attributes:
        number: Number in the paper.
        title: What the table compares.
        columns: Metric keys.
        rows: Rows in the paper's order.
        reference: Label of the row that differences refer to.
        backbone: Backbone of the rows that other datasets than COCO have, too; None: no such rows.
        is_of_fusion: Whether the rows differ in the fusion alone, so that evaluations of one
            network's predictions count before trainings.
    """

    number: int
    title: str
    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]
    reference: str
    backbone: str | None = None
    is_of_fusion: bool = False


@dataclass(frozen=True, slots=True)
class Paper:
    """Content of the file.

    Attributes:
        columns: Headings by metric key.
        heads: What the usual occlusion heads read, such as ``feature+mask``, by name.
        tables: All tables, by number.
    """

    columns: Mapping[str, str]
    heads: Mapping[str, str]
    tables: Mapping[int, PaperTable] = field(default_factory=dict)


@cache
def load_paper() -> Paper:
    """The paper's tables."""
    text = files("refine.report").joinpath("paper_tables.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    tables = {table["number"]: _to_table(content, table) for table in content["tables"]}
    return Paper(content["columns"], content["heads"], tables)


def _to_table(content: Mapping[str, Any], table: Mapping[str, Any]) -> PaperTable:
    columns = tuple(table["columns"])
    rows = tuple(_to_row(content, columns, {**table, **row}) for row in table["rows"])
    own = {key: table[key] for key in ("number", "title", "reference")}
    others = {key: table[key] for key in ("backbone", "is_of_fusion") if key in table}
    return PaperTable(**own, **others, columns=columns, rows=rows)


def _to_row(
    content: Mapping[str, Any], columns: tuple[str, ...], row: Mapping[str, Any]
) -> PaperRow:
    has_runs = "network" in row and "fusion" in row
    printed = dict(zip(columns, row.get("printed", ()), strict=False))
    return PaperRow(
        label=row["label"],
        printed={key: value for key, value in printed.items() if value is not None},
        backbone=row.get("backbone"),
        settings=(
            content["networks"][row["network"]] | content["fusions"][row["fusion"]]
            if has_runs
            else None
        ),
        misprints=frozenset(row.get("misprints", ())),
        note=row.get("note", ""),
        adds_to=row.get("adds_to"),
    )
