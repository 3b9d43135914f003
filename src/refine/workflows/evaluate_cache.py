"""Evaluation from a prediction cache: one job, or all jobs of a sweep in one pass."""

import hashlib
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from refine.categories import CategoryTable
from refine.config.settings import EvaluateSettings, Sections
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.errors import RefineError
from refine.evaluation.cached import Setting, evaluate_cached
from refine.evaluation.result import EvaluationResult
from refine.options import DataOptions, to_plain
from refine.order.heads import is_ranking
from refine.pipeline import Pipeline
from refine.prediction_cache.cache import PredictionReader, PredictionWriter
from refine.prediction_cache.header import CacheHeader, identify_dataset
from refine.runs.checkpoint import Checkpoint, hash_weights
from refine.runs.console import say
from refine.runs.run_folder import RunFolder
from refine.workflows.final_evaluation import open_data, write_evaluation

_LOGGER = logging.getLogger(__name__)


class CacheResult(NamedTuple):
    """What a pass over a cache found out for one job, and the settings that it used."""

    result: EvaluationResult
    categories: CategoryTable
    sections: Sections


def evaluate_predictions(
    settings: EvaluateSettings, *, prepared: CacheResult | None = None
) -> dict[str, float | int]:
    """Evaluate the cache of ``predictions`` or ``save_predictions``; what is in ``metrics.json``.

    ``prepared`` is what an earlier pass found out for these settings.

    Raises:
        RefineError: A bad cache, or one that these settings cannot use.
    """
    result, categories, sections = prepared or _evaluate_jobs([_open_job(settings)])[0]
    folder = RunFolder(settings.run_dir)
    folder.write_config(settings.to_plain() | to_plain(sections))
    metrics = write_evaluation(settings, result, categories)
    say(f"results: {folder.path}")
    return metrics


def open_cache(
    settings: EvaluateSettings,
    checkpoint: Checkpoint,
    sections: Sections,
    dataset: CocoPanopticDataset,
    pipeline: Pipeline,
) -> PredictionWriter:
    """A new cache for the predictions of a checkpoint, or an unfinished one to continue.

    Raises:
        RefineError: The folder holds something else.
    """
    fusion = sections.fusion
    config = to_plain(sections)
    config["data"]["num_workers"] = DataOptions().num_workers  # may change when it is continued
    with checkpoint.path.open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    header = CacheHeader(
        dataset=identify_dataset(dataset.files.annotations, dataset.image_ids),
        form=settings.predictions_form,
        panoptic_only=fusion.panoptic_only,
        score_thresh=(
            fusion.merge.score_thresh if fusion.panoptic_only else sections.model.roi.score_thresh
        ),
        checkpoint={
            "weights": weights,
            "config": config,
            "heads": {k: hash_weights(h.state_dict()) for k, h in pipeline.heads.items()},
            "seed": checkpoint.config.get("seed"),
        },
        occlusion_heads=tuple(k for k, h in pipeline.heads.items() if not is_ranking(h)),
        ranking_heads=tuple(k for k, h in pipeline.heads.items() if is_ranking(h)),
    )
    return PredictionWriter(Path(str(settings.save_predictions)), header)


def prepare_jobs(jobs: Sequence[EvaluateSettings | None]) -> list[CacheResult | None]:
    """Evaluate the jobs of a sweep that read the same cache in one pass over it.

    Finished jobs and jobs whose settings the cache cannot serve are left out, and so are all jobs
    of a pass that fails: each then runs by itself (None) and reports what is wrong. Settings are
    None where they are not valid.
    """
    groups: dict[str, dict[int, _Job]] = {}
    for index, settings in enumerate(jobs):
        if settings is None or settings.predictions is None:
            continue
        if RunFolder(settings.run_dir).is_finished(settings):
            continue
        with suppress(RefineError):
            job = _open_job(settings)
            data = job.sections.data
            group = repr(
                (job.reader.folder, data.root, data.val_split, data.val, data.val_image_ids)
            )
            groups.setdefault(group, {})[index] = job
    results: list[CacheResult | None] = [None] * len(jobs)
    for group_jobs in groups.values():
        if len(group_jobs) > 1:
            _LOGGER.info("%d jobs share one pass over the predictions", len(group_jobs))
            try:
                found = _evaluate_jobs(list(group_jobs.values()))
            except RefineError as error:
                _LOGGER.warning("one pass for all failed, so every job runs alone: %s", error)
                continue
            for index, result in zip(group_jobs, found, strict=True):
                results[index] = result
    return results


class _Job(NamedTuple):
    sections: Sections
    reader: PredictionReader
    seed: int


def _open_job(settings: EvaluateSettings) -> _Job:
    """Open the cache; refuse settings that it cannot serve."""
    folder = settings.predictions or settings.save_predictions
    if settings.from_baseline:
        folder = settings.baseline_predictions
    if folder is None:
        raise RefineError("this row is of the baseline: give baseline_predictions=FOLDER, too")
    reader = PredictionReader(Path(folder))
    sections = settings.choose_sections(reader.header.checkpoint["config"])
    reader.require_fusion(sections.fusion)
    return _Job(sections, reader, settings.seed)


def _evaluate_jobs(jobs: Sequence[_Job]) -> list[CacheResult]:
    """One pass over the cache of the first job, which is that of all."""
    first = jobs[0]
    datamodule = open_data(first.sections.data, seed=first.seed)
    dataset = datamodule.val_dataset
    first.reader.require_dataset(identify_dataset(dataset.files.annotations, dataset.image_ids))
    results = evaluate_cached(
        first.reader,
        dataset,
        [Setting(job.sections.fusion, job.sections.data.stuff_area_limit_px) for job in jobs],
        num_workers=min(datamodule.options.num_workers, os.cpu_count() or 1),
    )
    categories = datamodule.categories
    return [CacheResult(r, categories, j.sections) for r, j in zip(results, jobs, strict=True)]
