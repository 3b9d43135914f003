"""The evaluation that ends a run, and the results that it leaves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from refine.callbacks.evaluation_files import Pictures
from refine.categories import CategoryTable
from refine.config.instantiate import build_trainer
from refine.config.settings import RunSettings
from refine.data.datamodule import PanopticDataModule
from refine.evaluation.result import EvaluationResult
from refine.metrics.quality_table import to_csv
from refine.metrics.records import records_to_csv
from refine.options import DataOptions, OptimizerOptions, ScheduleOptions
from refine.pipeline import Pipeline
from refine.runs.console import print_table, say
from refine.runs.run_folder import RunFolder
from refine.training.detector_module import DetectorModule


def evaluate_pipeline(
    settings: RunSettings,
    pipeline: Pipeline,
    datamodule: PanopticDataModule,
    *,
    config: Mapping[str, Any],
) -> dict[str, float | int]:
    """Evaluate a pipeline in eval mode, and write the results; the content of ``metrics.json``.

    The data are set up; ``config`` becomes ``config.yaml``.
    """
    module = build_module(settings, pipeline, datamodule)
    pictures = Pictures(settings.run_dir, count=settings.draw)
    trainer = build_trainer(settings.trainer, callbacks=[pictures], loggers=[])
    if trainer.is_global_zero:
        RunFolder(settings.run_dir).write_config(config)
    trainer.validate(module, datamodule=datamodule, verbose=False)
    return finish(trainer, module, datamodule, settings)


def finish(
    trainer: pl.Trainer,
    module: DetectorModule,
    datamodule: PanopticDataModule,
    settings: RunSettings,
) -> dict[str, float | int]:
    """Write and print the results of a run's final evaluation; the content of ``metrics.json``."""
    result = module.result
    assert result is not None
    if trainer.is_global_zero:
        write_evaluation(settings, result, datamodule.categories)
        pictures = f"; pictures: {Path(settings.run_dir) / 'pictures'}" if settings.draw else ""
        say(f"results: {settings.run_dir}{pictures}")
    return result.metrics | {"seed": settings.seed}


def write_evaluation(
    settings: RunSettings, result: EvaluationResult, categories: CategoryTable
) -> dict[str, float | int]:
    """Write the results of an evaluation and print its table; the content of ``metrics.json``."""
    metrics = result.metrics | {"seed": settings.seed}
    tables = {
        "per_category.csv": to_csv(result.rows),
        "per_image.csv": records_to_csv(result.records, categories),
    }
    folder = RunFolder(settings.run_dir)
    folder.write_results(metrics, settings=settings, tables=tables)
    print_table(result.groups, metrics)
    return metrics


def open_data(options: DataOptions, *, seed: int) -> PanopticDataModule:
    """The evaluation split of a dataset."""
    datamodule = PanopticDataModule(options, seed=seed)
    datamodule.prepare_data()
    datamodule.setup("validate")
    return datamodule


def build_module(
    settings: RunSettings, pipeline: Pipeline, datamodule: PanopticDataModule
) -> DetectorModule:
    """The Lightning module that evaluates a pipeline and trains nothing."""
    return DetectorModule(
        pipeline,
        datamodule.categories,
        optimizer=OptimizerOptions(),
        schedule=ScheduleOptions(),
        seed=settings.seed,
        record={},
        compute_ap=settings.compute_ap,
    )
