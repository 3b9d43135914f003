"""What each image adds to the panoptic quality of a finished run, read back from its folder."""

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from refine.categories import Category, CategoryTable
from refine.errors import RefineError
from refine.metrics.records import NOTHING, records_from_csv, sum_records

ITERATIONS_NAME = "iterations.json"
"""File that ``scripts/evaluate_iterations.py --save`` leaves beside a run's results: the metrics of
iterations 0 to T of one network."""


@dataclass(frozen=True, slots=True, eq=False)
class FinishedRun:
    """A finished run with the counts of every image.

    Attributes:
        folder: The run's folder.
        metrics: ``metrics.json``; fractions in [0, 1].
        categories: Categories of the dataset; names and dataset ids are true, colours are not.
        image_ids: ``[N]`` int64, ascending.
        iou: ``[N, C]`` float64, summed IoU of the matched pairs of an image and a category.
        halves: ``[N, C]`` float64, ``tp + fp / 2 + fn / 2``; 0 where there is nothing to count.
    """

    folder: Path
    metrics: dict[str, float]
    categories: CategoryTable
    image_ids: np.ndarray
    iou: np.ndarray
    halves: np.ndarray

    def take_images(self, kept: np.ndarray) -> "FinishedRun":
        """The run on some of its images (``[N]`` bool); ``metrics`` stay those of all."""
        counts = {name: getattr(self, name)[kept] for name in ("image_ids", "iou", "halves")}
        return replace(self, **counts)


def divide(iou: np.ndarray, halves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """PQ of such counts or of sums of them, 0 where there is nothing to count; where there is."""
    is_present = halves > 0
    return np.divide(iou, halves, out=np.zeros_like(iou), where=is_present), is_present


def read_run(folder: Path) -> FinishedRun:
    """Read a finished run.

    Raises:
        RefineError: The folder is missing, the run has not finished, or a file is missing,
            malformed or contradicts another.
    """
    metrics = read_metrics(folder)
    categories, counts = _read_categories(folder / "per_category.csv")
    path = folder / "per_image.csv"
    records = records_from_csv(_read(path), categories, source=str(path))
    sums = sum_records(records, len(categories))
    if not np.array_equal(counts, np.stack([sums.tp, sums.fp, sums.fn], axis=1)):
        raise RefineError(
            f"{folder}: per_image.csv does not add up to per_category.csv; evaluate anew"
        )
    image_ids, rows = np.unique(records["image_id"], return_inverse=True)
    counted = records["category"] != NOTHING
    place = (rows[counted], records["category"][counted])
    iou, halves = np.zeros((2, len(image_ids), len(categories)))
    iou[place] = records["iou"][counted]
    halves[place] = (records["tp"] + 0.5 * records["fp"] + 0.5 * records["fn"])[counted]
    return FinishedRun(folder, metrics, categories, image_ids, iou, halves)


def read_metrics(folder: Path) -> dict[str, float]:
    """``metrics.json`` of a finished run.

    Raises:
        RefineError: The folder is missing, the run has not finished, or the file is malformed.
    """
    if not folder.is_dir():
        raise RefineError(f"{folder}: no such folder; name the folder of a finished run")
    if not (folder / "DONE").is_file():
        raise RefineError(f"{folder}: the run has not finished (no DONE); run it to its end")
    path = folder / "metrics.json"
    try:
        return {str(key): value for key, value in json.loads(_read(path)).items()}
    except (ValueError, AttributeError):
        raise RefineError(f"{path}: no JSON object; evaluate anew") from None


def check_comparable(first: FinishedRun, second: FinishedRun) -> None:
    """Raise a RefineError that says in which categories or images two runs differ, if they do."""
    if first.categories != second.categories:
        raise RefineError(
            f"{first.folder} and {second.folder} have different categories "
            f"({len(first.categories)} and {len(second.categories)}); "
            "compare runs evaluated on one dataset"
        )
    strangers = np.setxor1d(first.image_ids, second.image_ids)
    if len(strangers):
        raise RefineError(
            f"{first.folder} and {second.folder} were evaluated on different images "
            f"({len(first.image_ids)} and {len(second.image_ids)}; image {strangers[0]} is in "
            "one of them only); evaluate both on the same"
        )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"unreadable ({error})"
        raise RefineError(f"{path}: {reason}; evaluate anew with this version") from None


def _read_categories(path: Path) -> tuple[CategoryTable, np.ndarray]:
    """The categories, and ``[C, 3]`` int64 tp, fp and fn in their order."""
    categories, counts = [], {}
    lines = _read(path).splitlines()
    try:
        for row in csv.DictReader(lines):
            key, is_thing = int(row["category_id"]), bool(int(row["isthing"]))
            categories.append(
                Category(dataset_id=key, name=row["name"], is_thing=is_thing, color=(0, 0, 0))
            )
            counts[key] = [int(row[name]) for name in ("tp", "fp", "fn")]
        table = CategoryTable(categories)
    except (KeyError, TypeError, ValueError, RefineError) as error:
        raise RefineError(f"{path}: malformed ({error}); evaluate anew") from None
    return table, np.array([counts[c.dataset_id] for c in table.categories], np.int64)
