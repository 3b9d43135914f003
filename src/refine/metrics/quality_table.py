"""Panoptic quality for people: a row for each category, and the table that every paper prints."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from refine.categories import CategoryTable
from refine.metrics.functional import GroupQuality, PanopticStats, compute_category_quality


class CategoryRow(NamedTuple):
    """One category of ``per_category.csv``; the fields are its columns.

    ``category_id`` is the dataset id. The fractions ``pq``, ``sq`` and ``rq`` are 0 if the category
    has no segments at all; the sums are those of :class:`~refine.metrics.functional.PanopticStats`.
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
    """One row for each category, in the table's order (things first)."""
    quality = compute_category_quality(stats)
    columns = (*quality[:3], stats.iou, stats.tp, stats.fp, stats.fn)
    return [
        CategoryRow(c.dataset_id, c.name, int(c.is_thing), *values)
        for c, *values in zip(categories.categories, *(v.tolist() for v in columns), strict=True)
    ]


def to_csv(rows: Iterable[Sequence[object]], columns: Sequence[str] = CategoryRow._fields) -> str:
    """The rows as CSV text below a header; fractions at full precision."""
    target = io.StringIO()
    csv.writer(target, lineterminator="\n").writerows([columns, *rows])
    return target.getvalue()


def to_cells(groups: Mapping[str, GroupQuality]) -> list[tuple[str, ...]]:
    """Rows of text: group, PQ, SQ, RQ (x 100, one decimal), number of categories.

    A group without categories shows dashes: there is nothing that its 0 would measure.
    """
    return [
        (
            name.capitalize(),
            *(f"{100 * value:.1f}" if group.num_categories else "-" for value in group[:3]),
            str(group.num_categories),
        )
        for name, group in groups.items()
    ]
