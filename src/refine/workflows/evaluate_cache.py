"""Evaluation from a prediction cache: one job, or all jobs of a sweep in one pass."""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from refine.categories import CategoryTable
from refine.config.instantiate import to_plain
from refine.config.overrides import from_checkpoint
from refine.config.settings import Sections
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.data.datamodule import PanopticDataModule
from refine.errors import RefineError
from refine.evaluation.cached import Setting, evaluate_cached
from refine.evaluation.result import EvaluationResult
from refine.metrics.quality_table import QualityTable, to_csv
from refine.metrics.records import records_to_csv
from refine.options import DataOptions, FusionOptions
from refine.order.heads import is_ranking
from refine.pipeline import Pipeline
from refine.prediction_cache.cache import PredictionReader, PredictionWriter
from refine.prediction_cache.header import CacheHeader, identify_dataset
from refine.runs.checkpoint import Checkpoint, hash_weights
from refine.runs.results import (
    config_hash,
    is_finished,
    print_table,
    say,
    write_config,
    write_results,
)

_LOGGER = logging.getLogger(__name__)
_prepared: dict[str, tuple[EvaluationResult, CategoryTable]] = {}
"""Results of jobs that have not run yet, by their configuration."""


def evaluate_predictions(cfg: DictConfig, overrides: Sequence[str]) -> dict[str, float | int]:
    """Evaluate the cache of a configuration of ``conf/evaluate.yaml``.

    Args:
        cfg: Composed configuration; ``predictions`` is the cache.
        overrides: What the command line named; the rest comes from the cache.

    Returns:
        The content of ``metrics.json``.

    Raises:
        RefineError: A bad cache, or one that these settings cannot use.
    """
    key = _key(cfg)
    if key not in _prepared:
        _evaluate_jobs([(cfg, overrides)])
    result, categories = _prepared.pop(key)
    run_dir = Path(cfg.run_dir)
    metrics = result.metrics | {"seed": cfg.seed}
    write_config(run_dir, as_used(cfg, _read_options(cfg, overrides)[0]))
    write_results(
        run_dir,
        metrics,
        to_csv(result.rows),
        per_image_csv=records_to_csv(result.records, categories),
        config=to_plain(cfg),
    )
    print_table(QualityTable(result.groups), metrics)
    say(f"results: {run_dir}")
    return metrics


def as_used(cfg: DictConfig, options: Sections) -> dict[str, Any]:
    """What ``config.yaml`` records: the command's settings, with the checkpoint's own sections.

    Args:
        cfg: Composed configuration.
        options: ``model``, ``data`` and ``fusion`` as the evaluation uses them.
    """
    plain: dict[str, Any] = to_plain(cfg)
    return plain | asdict(options)


def open_cache(
    cfg: DictConfig,
    checkpoint: Checkpoint,
    options: Sections,
    dataset: CocoPanopticDataset,
    pipeline: Pipeline,
) -> PredictionWriter:
    """A new cache for the predictions of a checkpoint, or an unfinished one to go on with.

    Args:
        cfg: Names ``save_predictions`` and ``predictions_form``.
        checkpoint: What predicts.
        options: ``model``, ``data`` and ``fusion`` as the evaluation uses them.
        dataset: What is predicted.
        pipeline: With the heads whose answers are kept.

    Raises:
        RefineError: The folder holds something else.
    """
    fusion: FusionOptions = options.fusion
    config = asdict(options)
    config["data"]["num_workers"] = DataOptions().num_workers  # may change when it goes on
    with checkpoint.path.open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    header = CacheHeader(
        dataset=identify_dataset(dataset.files.annotations, dataset.image_ids),
        form=cfg.predictions_form,
        panoptic_only=fusion.panoptic_only,
        score_thresh=(
            fusion.merge.score_thresh if fusion.panoptic_only else options.model.roi.score_thresh
        ),
        checkpoint={
            "weights": weights,
            "config": config,
            "heads": _hash_heads(pipeline),
            "seed": checkpoint.config.get("seed"),
        },
        occlusion_heads=tuple(k for k, h in pipeline.heads.items() if not is_ranking(h)),
        ranking_heads=tuple(k for k, h in pipeline.heads.items() if is_ranking(h)),
    )
    return PredictionWriter(Path(cfg.save_predictions), header)


def _hash_heads(pipeline: Pipeline) -> dict[str, str]:
    return {name: hash_weights(head.state_dict()) for name, head in pipeline.heads.items()}


def prepare_jobs(configs: Sequence[DictConfig]) -> None:
    """Evaluate the jobs of a sweep that read the same cache in one pass over it.

    Jobs whose settings the cache cannot serve are left out, and so are all jobs of a pass that
    fails: each then runs by itself and reports what is wrong, while the others go on.

    Args:
        configs: Of every job, with their ``hydra`` section. Finished jobs are left out.
    """
    jobs: dict[str, list[tuple[DictConfig, list[str]]]] = {}
    for cfg in configs:
        if cfg.predictions is None or is_finished(_job_dir(cfg), _plain(cfg)):
            continue
        overrides = list(cfg.hydra.overrides.task)
        try:
            options, reader = _read_options(cfg, overrides)
            reader.require_fusion(options.fusion)
        except RefineError:
            continue
        data: DataOptions = options.data
        group = repr((_folder(cfg), data.root, data.val_split, data.val_image_ids))
        jobs.setdefault(group, []).append((cfg, overrides))
    for group_jobs in jobs.values():
        if len(group_jobs) > 1:
            _LOGGER.info("%d jobs share one pass over the predictions", len(group_jobs))
            try:
                _evaluate_jobs(group_jobs)
            except RefineError as error:
                _LOGGER.warning("one pass for all failed, so every job runs alone: %s", error)


def _evaluate_jobs(jobs: Sequence[tuple[DictConfig, Sequence[str]]]) -> None:
    reader, datamodule = _open(*jobs[0])
    settings = []
    for cfg, overrides in jobs:
        options, _ = _read_options(cfg, overrides)
        reader.require_fusion(options.fusion)
        settings.append(Setting(options.fusion, options.data.stuff_area_limit_px))
    results = evaluate_cached(
        reader,
        datamodule.val_dataset,
        settings,
        num_workers=min(datamodule.options.num_workers, os.cpu_count() or 1),
    )
    for (cfg, _), result in zip(jobs, results, strict=True):
        _prepared[_key(cfg)] = (result, datamodule.categories)


def _open(cfg: DictConfig, overrides: Sequence[str]) -> tuple[PredictionReader, PanopticDataModule]:
    options, reader = _read_options(cfg, overrides)
    datamodule = PanopticDataModule(options.data, seed=cfg.seed)
    datamodule.prepare_data()
    datamodule.setup("validate")
    dataset = datamodule.val_dataset
    reader.require_dataset(identify_dataset(dataset.files.annotations, dataset.image_ids))
    return reader, datamodule


def _read_options(cfg: DictConfig, overrides: Sequence[str]) -> tuple[Sections, PredictionReader]:
    reader = PredictionReader(_folder(cfg))
    return from_checkpoint(cfg, reader.header.checkpoint["config"], overrides), reader


def _folder(cfg: DictConfig) -> Path:
    if not cfg.from_baseline:
        return Path(cfg.predictions)
    if cfg.baseline_predictions is None:
        raise RefineError("this row is of the baseline: give baseline_predictions=FOLDER, too")
    return Path(cfg.baseline_predictions)


def _key(cfg: DictConfig) -> str:
    return config_hash(_plain(cfg))


def _plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as a run records it, but for its directory."""
    keys = [str(key) for key in cfg if key not in ("hydra", "run_dir")]
    plain: dict[str, Any] = to_plain(OmegaConf.masked_copy(cfg, keys))
    return plain


def _job_dir(cfg: DictConfig) -> Path:
    return Path(str(cfg.hydra.sweep.dir), str(cfg.hydra.sweep.subdir))
