"""``python -m refine.evaluate``: PQ, AP and speed of a checkpoint; PQ of cached predictions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from refine.callbacks.pictures import Pictures
from refine.callbacks.save_predictions import SavePredictions
from refine.config.command import run_command
from refine.config.instantiate import build_trainer, to_plain
from refine.config.overrides import from_checkpoint
from refine.config.settings import Sections
from refine.data.datamodule import PanopticDataModule
from refine.errors import RefineError
from refine.metrics.quality_table import QualityTable, to_csv
from refine.metrics.records import records_to_csv
from refine.options import (
    DataOptions,
    OptimizerOptions,
    ScheduleOptions,
)
from refine.pipeline import Pipeline
from refine.runs.checkpoint import Checkpoint, check_categories, read_checkpoint
from refine.runs.restore import add_heads, restore_pipeline
from refine.runs.results import (
    is_finished,
    print_table,
    read_metrics,
    say,
    write_config,
    write_results,
)
from refine.training.detector_module import DetectorModule
from refine.workflows.evaluate_cache import (
    as_used,
    evaluate_predictions,
    open_cache,
    prepare_jobs,
)


def evaluate(cfg: DictConfig, overrides: Sequence[str]) -> dict[str, float | int]:
    """Evaluate what ``conf/evaluate.yaml`` names: a checkpoint, or cached predictions.

    Args:
        cfg: Composed configuration; ``run_dir`` receives the results.
        overrides: What the command line named; the rest comes from the checkpoint.

    Returns:
        The content of ``metrics.json``.

    Raises:
        RefineError: Bad data, settings, checkpoint or cache.
    """
    if (cfg.ckpt_path is None) == (cfg.predictions is None):
        raise RefineError("give either ckpt_path=FILE or predictions=FOLDER")
    if cfg.predictions is not None:
        return evaluate_predictions(cfg, overrides)
    checkpoint = read_checkpoint(Path(cfg.ckpt_path))
    options = from_checkpoint(cfg, checkpoint.config, overrides)
    datamodule = _open_data(options.data, seed=cfg.seed)
    check_categories(checkpoint, datamodule.categories, root=options.data.root)
    pipeline = restore_pipeline(checkpoint, options)
    add_heads(pipeline, checkpoint, {**(cfg.occlusion_ckpts or {}), **(cfg.ranking_ckpts or {})})
    if cfg.save_predictions is not None:
        return _evaluate_and_save(
            cfg,
            overrides,
            checkpoint=checkpoint,
            options=options,
            datamodule=datamodule,
            module=_build_module(cfg, pipeline, datamodule),
        )
    return evaluate_pipeline(cfg, pipeline, datamodule, options=options)


def evaluate_pipeline(
    cfg: DictConfig,
    pipeline: Pipeline,
    datamodule: PanopticDataModule,
    *,
    options: Sections,
) -> dict[str, float | int]:
    """Evaluate a pipeline on the evaluation split, and write the results.

    Args:
        cfg: Names ``run_dir``, ``trainer``, ``draw``, ``compute_ap`` and ``seed``.
        pipeline: In eval mode.
        datamodule: Set up.
        options: ``model``, ``data`` and ``fusion`` as they are used, for ``config.yaml``.

    Returns:
        The content of ``metrics.json``.
    """
    module = _build_module(cfg, pipeline, datamodule)
    trainer = build_trainer(cfg.trainer, callbacks=[build_pictures(cfg, datamodule)], loggers=[])
    if trainer.is_global_zero:
        write_config(Path(cfg.run_dir), as_used(cfg, options))
    trainer.validate(module, datamodule=datamodule, verbose=False)
    return finish(trainer, module, datamodule, cfg=cfg)


def _build_module(
    cfg: DictConfig, pipeline: Pipeline, datamodule: PanopticDataModule
) -> DetectorModule:
    return DetectorModule(
        pipeline,
        datamodule.categories,
        optimizer=OptimizerOptions(),
        schedule=ScheduleOptions(),
        seed=cfg.seed,
        record={},
        compute_ap=cfg.compute_ap,
    )


def _evaluate_and_save(
    cfg: DictConfig,
    overrides: Sequence[str],
    *,
    checkpoint: Checkpoint,
    options: Sections,
    datamodule: PanopticDataModule,
    module: DetectorModule,
) -> dict[str, float | int]:
    """Predict the images that the cache lacks, then evaluate: what is there is not done again."""
    if cfg.trainer.limit_val_batches is not None:
        raise RefineError(
            "save_predictions needs all images: leave trainer.limit_val_batches alone, and choose "
            "images with data.val_image_ids"
        )
    module.pipeline.asks_all_heads = True
    image_ids = datamodule.val_dataset.image_ids
    writer = open_cache(cfg, checkpoint, options, datamodule.val_dataset, module.pipeline)
    missing = writer.missing(image_ids)
    callbacks = [SavePredictions(writer), build_pictures(cfg, datamodule)]
    trainer = build_trainer(cfg.trainer, callbacks=callbacks, loggers=[])
    if missing:
        rest = _open_data(replace(options.data, val_image_ids=missing), seed=cfg.seed)
        trainer.validate(module, datamodule=rest, verbose=False)
        trainer.strategy.barrier()
    if trainer.is_global_zero:
        writer.finish(image_ids)
        write_config(Path(cfg.run_dir), as_used(cfg, options))
        say(f"predictions: {cfg.save_predictions}")
    if len(missing) == len(image_ids):
        return finish(trainer, module, datamodule, cfg=cfg)
    say(f"{len(image_ids) - len(missing)} predictions were there; results are those of the cache")
    cfg.predictions, cfg.ckpt_path = cfg.save_predictions, None
    return evaluate_predictions(cfg, overrides)


def open_checkpoint(
    path: Path, *, data_root: Path | None = None
) -> tuple[Pipeline, PanopticDataModule]:
    """A checkpoint's pipeline in eval mode, and the evaluation split of its own data.

    Args:
        path: Of ``refine.train``.
        data_root: Where the data lie now; None is where they lay in training.

    Raises:
        RefineError: A bad checkpoint, or other data than it was trained on.
    """
    checkpoint = read_checkpoint(path)
    data = checkpoint.sections.data
    if data_root is not None:
        data = replace(data, root=str(data_root))
    datamodule = _open_data(data, seed=0)
    check_categories(checkpoint, datamodule.categories, root=data.root)
    return restore_pipeline(checkpoint), datamodule


def _open_data(options: DataOptions, *, seed: int) -> PanopticDataModule:
    datamodule = PanopticDataModule(options, seed=seed)
    datamodule.prepare_data()
    datamodule.setup("validate")
    return datamodule


def build_pictures(cfg: DictConfig, datamodule: PanopticDataModule) -> Pictures:
    """The callback that draws ``cfg.draw`` images of the final evaluation."""
    return Pictures(Path(cfg.run_dir) / "pictures", datamodule.categories, count=cfg.draw)


def finish(
    trainer: pl.Trainer,
    module: DetectorModule,
    datamodule: PanopticDataModule,
    *,
    cfg: DictConfig,
) -> dict[str, float | int]:
    """What ends a run: results of the final evaluation on disk, the table on the console.

    Args:
        trainer: Has run the evaluation.
        module: Holds its result.
        datamodule: With the evaluation split.
        cfg: Names ``run_dir``, ``draw`` and ``seed``.

    Returns:
        The content of ``metrics.json``.
    """
    run_dir = Path(cfg.run_dir)
    result = module.result
    assert result is not None
    metrics = result.metrics | {"seed": cfg.seed}
    if trainer.is_global_zero:
        write_results(
            run_dir,
            metrics,
            to_csv(result.rows),
            per_image_csv=records_to_csv(result.records, datamodule.categories),
            config=to_plain(cfg),
        )
        print_table(QualityTable(result.groups), metrics)
        say(f"results: {run_dir}" + (f"; pictures: {run_dir / 'pictures'}" if cfg.draw else ""))
    return metrics


def _task(cfg: DictConfig) -> float:
    settings = HydraConfig.get()
    if settings.mode == RunMode.MULTIRUN and is_finished(Path(cfg.run_dir), to_plain(cfg)):
        say(f"finished before: {cfg.run_dir}")
        return float(read_metrics(Path(cfg.run_dir))["pq"])
    return float(evaluate(cfg, settings.overrides.task)["pq"])


def main() -> None:
    """Entry point of ``refine-evaluate``."""
    run_command("evaluate", _task, prepare=prepare_jobs)


if __name__ == "__main__":
    main()
