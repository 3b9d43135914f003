"""Panoptic quality for people: rows per category, CSV, and the table every paper prints."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from refine.categories import CategoryTable
from refine.metrics.functional import GroupQuality, PanopticStats, compute_category_quality


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryRow:
    """One category of ``per_category.csv``; the fields are its columns.

    Attributes:
        category_id: Dataset id, as in the JSON.
        name: Name of the category.
        isthing: 1 for a thing, 0 for stuff.
        pq: Fraction; 0 if the category has no segments at all (``tp + fp + fn == 0``).
        sq: Fraction, likewise.
        rq: Fraction, likewise.
        iou: Summed IoU of the matched pairs.
        tp: Matched pairs.
        fp: Wrong predictions.
        fn: Missed segments.
    """

    category_id: int
    name: str
    isthing: int
    pq: float
    sq: float
    rq: float
    iou: float
    tp: int
    fp: int
    fn: int


def category_rows(stats: PanopticStats, categories: CategoryTable) -> list[CategoryRow]:
    """One row a category, in the table's order (things first)."""
    quality = compute_category_quality(stats)
    return [
        CategoryRow(
            category_id=category.dataset_id,
            name=category.name,
            isthing=int(category.is_thing),
            pq=float(quality.pq[k]),
            sq=float(quality.sq[k]),
            rq=float(quality.rq[k]),
            iou=float(stats.iou[k]),
            tp=int(stats.tp[k]),
            fp=int(stats.fp[k]),
            fn=int(stats.fn[k]),
        )
        for k, category in enumerate(categories.categories)
    ]


def to_csv(rows: Sequence[CategoryRow]) -> str:
    """The rows as CSV text with a header; fractions at full precision."""
    target = io.StringIO()
    names = [field.name for field in fields(CategoryRow)]
    writer = csv.DictWriter(target, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return target.getvalue()


@dataclass(frozen=True, slots=True)
class QualityTable:
    """PQ, SQ and RQ (columns) over all, things and stuff (rows).

    Attributes:
        groups: Averages by name: ``all``, ``things``, ``stuff``.
    """

    groups: Mapping[str, GroupQuality]

    def cells(self) -> list[tuple[str, str, str, str, str]]:
        """Rows of text: group, PQ, SQ, RQ (x 100, one decimal), number of categories.

        A group without categories shows dashes: there is nothing that its 0 would measure.
        """
        return [
            (name.capitalize(), *self._percents(group), str(group.num_categories))
            for name, group in self.groups.items()
        ]

    @staticmethod
    def _percents(group: GroupQuality) -> tuple[str, str, str]:
        if not group.num_categories:
            return "-", "-", "-"
        return f"{100 * group.pq:.1f}", f"{100 * group.sq:.1f}", f"{100 * group.rq:.1f}"

    def to_markdown(self) -> str:
        """The table in Markdown, aligned for reading as plain text too."""
        rows = [("", "PQ", "SQ", "RQ", "N"), *self.cells()]
        lines = [
            "| " + f"{row[0]:<6}" + "".join(f" | {c:>5}" for c in row[1:]) + " |" for row in rows
        ]
        lines.insert(1, "|" + "-" * 8 + "|" + "------:|" * 4)
        return "\n".join(lines)
