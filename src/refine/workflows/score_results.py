"""Score COCO-panoptic result files against ground truth, without a model.

A drop-in for panopticapi's ``pq_compute``: same rules, same default folders, same refusals. It
imports neither torch nor Lightning, so bad input is answered at once.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from refine.categories import CategoryTable
from refine.coco_format.annotations import (
    PanopticAnnotations,
    PanopticResults,
    load_panoptic_json,
    load_panoptic_results,
)
from refine.coco_format.category_choice import choose_categories, rename_segments
from refine.coco_format.png import decode_segment_png
from refine.coco_format.segment_runs import find_runs
from refine.coco_format.storage import Storage, open_storage
from refine.config.settings import ScoreSettings
from refine.errors import RefineError
from refine.metrics.functional import (
    GroupQuality,
    average_quality,
    match_segments,
    to_metric_keys,
)
from refine.metrics.quality_table import CategoryRow, category_rows, to_csv
from refine.metrics.records import records_to_csv, sum_records, to_records
from refine.options import CategoryOptions
from refine.runs.console import print_table, say
from refine.runs.run_folder import RunFolder
from refine.types import GroundTruth, PanopticPrediction


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreResult:
    """Panoptic quality of a result file.

    Attributes:
        metrics: The nine keys ``pq`` to ``rq_stuff``, as fractions; ``num_images``.
        records: What each image added (:mod:`refine.metrics.records`).
        categories: Categories of the ground truth.
        groups: Averages over all, things and stuff.
        rows: One row for each category, with dataset ids.
    """

    metrics: dict[str, float | int]
    records: np.ndarray
    categories: CategoryTable
    groups: dict[str, GroupQuality]
    rows: list[CategoryRow]


def score_results(
    gt_json: Path,
    pred_json: Path,
    *,
    gt_dir: str | Path | None = None,
    pred_dir: str | Path | None = None,
    num_workers: int = 2,
    options: CategoryOptions | None = None,
) -> ScoreResult:
    """Panoptic quality of a result file.

    Predictions for images that the ground truth does not have are ignored.

    Args:
        gt_json: Panoptic annotations with ``images``, ``annotations`` and ``categories``.
        pred_json: Result file; only ``annotations`` is read.
        gt_dir: Folder or zip of the ground-truth PNGs; by default ``gt_json`` without ``.json``.
        pred_dir: The same of the predicted ones.
        num_workers: Number of threads that decode and match.
        options: Which categories of the ground truth count; None: all.

    Raises:
        RefineError: A file or folder is missing, malformed or contradicts another.
    """
    truth, results = _load(gt_json, pred_json, options or CategoryOptions())
    categories = truth.categories
    _check_coverage(truth, results)
    true_files = _open_pngs(gt_json, gt_dir, "gt_dir")
    pred_files = _open_pngs(pred_json, pred_dir, "pred_dir")

    match = partial(_match_image, truth, results, true_files, pred_files)
    # Threads, not processes: Pillow and numpy let go of the interpreter lock, and two threads cost
    # neither a start nor copies. The sum is in the order of the images, whatever the threads do.
    pool = ThreadPoolExecutor(max(num_workers, 1))
    try:
        records = np.concatenate(list(pool.map(match, range(len(truth)))))
    finally:
        pool.shutdown(cancel_futures=True)  # a failing image stops the rest
    stats = sum_records(records, len(categories))
    groups = average_quality(stats, categories.num_things)
    return ScoreResult(
        metrics=to_metric_keys(groups) | {"num_images": len(truth)},
        records=records,
        categories=categories,
        groups=groups,
        rows=category_rows(stats, categories),
    )


def score(settings: ScoreSettings) -> dict[str, float | int]:
    """Score result files and print the table; write the results if ``out`` is given.

    Returns the content of ``metrics.json``; a :class:`RefineError` if they cannot be scored.
    """
    result = score_results(
        Path(settings.gt_json),
        Path(settings.pred_json),
        gt_dir=settings.gt_dir,
        pred_dir=settings.pred_dir,
        num_workers=settings.num_workers,
        options=settings.categories,
    )
    if settings.out is not None:
        tables = {
            "per_category.csv": to_csv(result.rows),
            "per_image.csv": records_to_csv(result.records, result.categories),
        }
        folder = RunFolder(settings.out)
        folder.write_results(result.metrics, settings=settings, tables=tables)
    print_table(result.groups, result.metrics)
    return result.metrics


def _match_image(
    truth: PanopticAnnotations,
    results: PanopticResults,
    true_files: Storage,
    pred_files: Storage,
    k: int,
) -> np.ndarray:
    """Records of image ``k`` of the ground truth."""
    image_id = int(truth.image_ids[k])
    height, width = truth.sizes[k].tolist()
    size, segments = (height, width), truth.segments(k)
    names = str(truth.file_names[k]), results.file_names[image_id]
    true_map, true_name = _read_map(true_files, names[0], size, truth.renamed(k))
    find_runs(true_map, segments, source=true_name)
    renamed = results.renamed.get(image_id, {})
    pred_map, pred_name = _read_map(pred_files, names[1], size, renamed)
    try:
        stats = match_segments(
            PanopticPrediction(segment_map=pred_map, segments=results.segments[image_id]),
            GroundTruth(segment_map=true_map, segments=segments),
            num_categories=len(truth.categories),
        )
    except ValueError as error:
        where = f"image {image_id} ({pred_name} against {true_name})"
        raise RefineError(f"{where}: {error}; make JSON and PNGs agree") from None
    return to_records(image_id, stats)


def _load(
    gt_json: Path, pred_json: Path, options: CategoryOptions
) -> tuple[PanopticAnnotations, PanopticResults]:
    truth = load_panoptic_json(gt_json)
    old = truth.categories
    results = load_panoptic_results(pred_json, old)
    choice = choose_categories(old, options, source=truth.source)
    if choice is None:
        return truth, results
    say(f"{truth.source}: {choice.describe(old)}")
    return truth.choose(choice), results.choose(choice)


def _check_coverage(truth: PanopticAnnotations, results: PanopticResults) -> None:
    """Refuse results that lack an image or number the images otherwise, and an empty truth."""
    if not len(truth.segment_ids):
        raise RefineError(f"{truth.source}: no image has a segment; there is nothing to score")
    missing = [i for i in truth.image_ids.tolist() if i not in results.segments]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise RefineError(
            f"{results.source}: no prediction for image {missing[0]}{more}; "
            f"every image of {truth.source} needs one, without segments if nothing was found"
        )
    for image_id, name in zip(truth.image_ids.tolist(), truth.image_names.tolist(), strict=True):
        other = results.image_names.get(image_id, name)
        if PurePosixPath(other).stem != PurePosixPath(name).stem:
            raise RefineError(
                f"{results.source}: image id {image_id} is {other!r}, but {name!r} in "
                f"{truth.source}; use its ids (python -m refine.predict has ids_from=)"
            )


def _open_pngs(json_path: Path, given: str | Path | None, argument: str) -> Storage:
    folder = Path(given or str(json_path).removesuffix(".json"))
    if not folder.exists():
        raise RefineError(f"{folder}: no such folder; name the folder of PNGs with {argument}=")
    return open_storage(folder, prefix=f"{folder.stem}/")


def _read_map(
    files: Storage, name: str, size: tuple[int, int], renamed: dict[int, int]
) -> tuple[np.ndarray, str]:
    """The map, of a size that the ground truth states, and its name in messages."""
    source = f"{files.label}/{name}"
    segment_map = decode_segment_png(files.read(name), source=source, size=size)
    return rename_segments(segment_map, renamed), source
