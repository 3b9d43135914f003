"""Tables 1 to 6 of the paper, read from ``paper_tables.yaml``, which explains them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """One row.

    Attributes:
        label: Name of the row.
        printed: Values by metric key, times 100 (images per second as they are).
        settings: Columns of the runs that belong to the row (:mod:`refine.report.collect`); None if
            there is no means to run it.
        backbone: Backbone of these runs on COCO, such as ``r101-dcn``.
        misprints: Keys of ``printed`` that contradict others.
        note: Remark to be shown with the row.
        adds_to: Label of the row that this one is one part more than; if that has no runs, the row
            that it adds to counts instead.
    """

    label: str
    printed: Mapping[str, float]
    settings: Mapping[str, Any] | None
    backbone: str | None = None
    misprints: tuple[str, ...] = ()
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


@cache
def read_content() -> dict[str, Any]:
    """The file: headings under ``columns``, what occlusion heads read under ``heads``, ..."""
    text = files("refine.report").joinpath("paper_tables.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


@cache
def load_tables() -> dict[int, PaperTable]:
    """All tables by number."""
    tables = {}
    for table in read_content()["tables"]:
        rows = tuple(_to_row(table, row) for row in table["rows"])
        own = {key: value for key, value in table.items() if key not in ("network", "fusion")}
        tables[table["number"]] = PaperTable(**{**own, "rows": rows})
    return tables


def _to_row(table: Mapping[str, Any], row: Mapping[str, Any]) -> PaperRow:
    content, row = read_content(), {"backbone": table.get("backbone"), **row}
    network, fusion = (row.pop(key, table.get(key)) for key in ("network", "fusion"))
    has_runs = network is not None and fusion is not None
    settings = content["networks"][network] | content["fusions"][fusion] if has_runs else None
    printed = zip(table["columns"], row.pop("printed", ()), strict=False)
    known = {key: value for key, value in printed if value is not None}
    return PaperRow(**row, printed=known, settings=settings)
