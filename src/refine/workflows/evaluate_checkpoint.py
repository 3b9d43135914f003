"""Evaluates a checkpoint, and keeps its raw predictions if asked to."""

from dataclasses import replace
from pathlib import Path

from refine.callbacks.evaluation_files import Pictures, SavePredictions
from refine.config.instantiate import build_trainer, check_trainer
from refine.config.settings import EvaluateSettings, Sections
from refine.data.datamodule import PanopticDataModule
from refine.errors import RefineError
from refine.options import to_plain
from refine.pipeline import Pipeline
from refine.runs.checkpoint import Checkpoint, check_categories, read_checkpoint
from refine.runs.console import say
from refine.runs.folder_lock import lock_folder
from refine.runs.restore import add_heads, restore_pipeline
from refine.runs.run_folder import RunFolder
from refine.workflows.evaluate_cache import CacheResult, evaluate_predictions, open_cache
from refine.workflows.final_evaluation import (
    build_module,
    evaluate_pipeline,
    finish,
    open_data,
)


def evaluate(
    settings: EvaluateSettings, *, prepared: CacheResult | None = None
) -> dict[str, float | int]:
    """Evaluate a checkpoint, or cached predictions; the content of ``metrics.json``.

    ``prepared`` is what an earlier pass over cached predictions found out for these settings.

    Raises:
        RefineError: Bad data, settings, checkpoint or cache.
    """
    if (settings.ckpt_path is None) == (settings.predictions is None):
        raise RefineError("give either ckpt_path=FILE or predictions=FOLDER")
    if settings.draw and settings.ckpt_path is None:
        raise RefineError(
            f"draw={settings.draw}: predictions={settings.predictions} holds no images to draw on; "
            "give ckpt_path=FILE, or draw=0"
        )
    if settings.ckpt_path is not None:
        check_trainer(settings.trainer)
    with lock_folder(Path(settings.run_dir)):
        if settings.ckpt_path is None:
            return evaluate_predictions(settings, prepared=prepared)
        return _evaluate(settings, Path(settings.ckpt_path))


def _evaluate(settings: EvaluateSettings, path: Path) -> dict[str, float | int]:
    checkpoint = read_checkpoint(path)
    sections = settings.choose_sections(checkpoint.config)
    datamodule = open_data(sections.data, seed=settings.seed)
    check_categories(checkpoint, datamodule.categories, source=datamodule.source)
    pipeline = restore_pipeline(checkpoint, sections)
    heads = {**(settings.occlusion_ckpts or {}), **(settings.ranking_ckpts or {})}
    add_heads(pipeline, checkpoint, heads)
    if settings.save_predictions is not None:
        return _evaluate_and_save(settings, checkpoint, sections, pipeline, datamodule)
    config = settings.to_plain() | to_plain(sections)
    return evaluate_pipeline(settings, pipeline, datamodule, config=config)


def open_checkpoint(
    path: Path, *, data_root: Path | None = None
) -> tuple[Pipeline, PanopticDataModule]:
    """A checkpoint's pipeline in eval mode, and the evaluation split of its own data.

    The data lie in ``data_root``, by default in the folder that the checkpoint recorded.

    Raises:
        RefineError: A bad checkpoint, or other data than it was trained on.
    """
    checkpoint = read_checkpoint(path)
    data = checkpoint.sections.data
    if data_root is not None:
        data = data.moved_to(data_root)
    datamodule = open_data(data, seed=0)
    check_categories(checkpoint, datamodule.categories, source=datamodule.source)
    return restore_pipeline(checkpoint), datamodule


def _evaluate_and_save(
    settings: EvaluateSettings,
    checkpoint: Checkpoint,
    sections: Sections,
    pipeline: Pipeline,
    datamodule: PanopticDataModule,
) -> dict[str, float | int]:
    """Predict the images that the cache lacks, then evaluate: what is there is not done again."""
    if sections.data.image.has_views:
        raise RefineError(
            "save_predictions keeps what the network says of one view: leave data.image.eval_flip "
            "and data.image.eval_scales alone"
        )
    if settings.trainer.limit_val_batches is not None:
        raise RefineError(
            "save_predictions needs all images: leave trainer.limit_val_batches alone, and choose "
            "images with data.val_image_ids"
        )
    module = build_module(settings, pipeline, datamodule)
    pipeline.asks_all_heads = True
    image_ids = datamodule.val_dataset.image_ids
    writer = open_cache(settings, checkpoint, sections, datamodule.val_dataset, pipeline)
    missing = writer.missing(image_ids)
    callbacks = [SavePredictions(writer), Pictures(settings.run_dir, count=settings.draw)]
    trainer = build_trainer(settings.trainer, callbacks=callbacks, loggers=[])
    if missing:
        rest = open_data(replace(sections.data, val_image_ids=missing), seed=settings.seed)
        trainer.validate(module, datamodule=rest, verbose=False)
        trainer.strategy.barrier()
    if trainer.is_global_zero:
        writer.finish(image_ids)
        RunFolder(settings.run_dir).write_config(settings.to_plain() | to_plain(sections))
        say(f"predictions: {settings.save_predictions}")
    if len(missing) == len(image_ids):
        return finish(trainer, module, datamodule, settings)
    say(f"{len(image_ids) - len(missing)} predictions were there; results are those of the cache")
    return evaluate_predictions(settings)
