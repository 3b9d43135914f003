"""What each image adds to panoptic quality: ``per_image.csv``, to compare runs image by image.

Records are a structured array of :data:`RECORD_DTYPE`, one entry for each image and category with
anything in it, so that ``np.concatenate`` joins those of images, batches and processes.
"""

import csv
import io

import numpy as np

from refine.categories import CategoryTable
from refine.errors import RefineError
from refine.metrics.functional import PanopticStats
from refine.metrics.quality_table import to_csv

NOTHING = -1
"""Category of the one record of an image in which nothing is to be counted."""

_SUMS = ("iou", "tp", "fp", "fn")
RECORD_DTYPE = np.dtype(
    [("image_id", "i8"), ("category", "i8"), *((k, "f8" if k == "iou" else "i8") for k in _SUMS)]
)
"""Image id of the JSON, contiguous category or :data:`NOTHING`, and the sums of both."""

COLUMNS = ("image_id", "category_id", *_SUMS)
"""Columns of ``per_image.csv``. ``category_id`` is the dataset id, or :data:`NOTHING`."""


def to_records(image_id: int, stats: PanopticStats) -> np.ndarray:
    """The records of one image, ascending by category.

    An image without anything to count gives one record of zeros: it was evaluated, and a bootstrap
    over images has to draw it too.
    """
    present = np.flatnonzero(stats.tp + stats.fp + stats.fn)
    records = np.zeros(max(len(present), 1), RECORD_DTYPE)
    records["image_id"] = image_id
    records["category"] = present if len(present) else NOTHING
    for name in _SUMS:
        records[name][: len(present)] = getattr(stats, name)[present]
    return records


def sum_records(records: np.ndarray, num_categories: int) -> PanopticStats:
    """The sums over all images, added up in the order of the records."""
    total = PanopticStats.zeros(num_categories)
    counted = records[records["category"] != NOTHING]
    for name in _SUMS:
        np.add.at(getattr(total, name), counted["category"], counted[name])
    return total


def sort_records(records: np.ndarray) -> np.ndarray:
    """The records ascending by image and category, however many processes gathered them."""
    return records[np.lexsort((records["category"], records["image_id"]))]


def records_to_csv(records: np.ndarray, categories: CategoryTable) -> str:
    """The text of ``per_image.csv``: a header and a row for each record, IoU at full precision."""
    dataset_ids = {NOTHING: NOTHING}
    dataset_ids |= {k: c.dataset_id for k, c in enumerate(categories.categories)}
    return to_csv(((k, dataset_ids[c], *sums) for k, c, *sums in records.tolist()), COLUMNS)


def records_from_csv(text: str, categories: CategoryTable, *, source: str) -> np.ndarray:
    """The records of a ``per_image.csv``, in the order of its rows.

    Raises:
        RefineError: Other columns, a value that is no number, or an unknown category.
    """
    # in files of before, where no category had it, 0 stands for NOTHING
    known = {c.dataset_id: k for k, c in enumerate(categories.categories)}
    contiguous = {0: NOTHING, NOTHING: NOTHING} | known
    rows = csv.reader(io.StringIO(text))
    if tuple(next(rows, ())) != COLUMNS:
        raise RefineError(f"{source}: the columns must be {','.join(COLUMNS)}; evaluate anew")
    records = []
    for number, row in enumerate(rows, start=2):
        try:
            image_id, dataset_id, iou, tp, fp, fn = row
            category = contiguous[int(dataset_id)]
            records.append((int(image_id), category, float(iou), int(tp), int(fp), int(fn)))
        except (ValueError, KeyError):
            raise RefineError(
                f"{source}: line {number} ({','.join(row)}) is malformed or of a category that "
                "the dataset does not have; evaluate anew"
            ) from None
    return np.array(records, RECORD_DTYPE)
