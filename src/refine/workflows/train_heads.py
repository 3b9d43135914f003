"""``stage=occlusion`` and ``stage=ranking``: heads that order instances, on a finished detector."""

import warnings
from dataclasses import asdict, replace
from pathlib import Path

import pytorch_lightning as pl
import torch

from refine.callbacks.checkpoints import WholeCheckpoints
from refine.config.instantiate import build_all, build_trainer
from refine.config.settings import Sections, TrainSettings
from refine.data.pairs.pair_datamodule import OcclusionDataModule
from refine.errors import RefineError
from refine.options import OcclusionStageOptions, RankingStageOptions, TrainerOptions
from refine.order.heads import build_head
from refine.runs.checkpoint import Checkpoint, check_categories, make_record, read_checkpoint
from refine.runs.console import say
from refine.runs.restore import restore_pipeline
from refine.runs.run_folder import RunFolder
from refine.training.order_module import OrderModule

HEAD_STAGES = ("occlusion", "ranking")


def train_heads(settings: TrainSettings, resume: Path | None) -> dict[str, float | int]:
    """Train the heads of ``settings.stage`` on the detector of ``detector_ckpt_path``.

    Returns the content of ``metrics.json``: ``pair_accuracy_NAME`` of heads and baselines.

    Raises:
        RefineError: No detector, no ordered pairs in the data, or bad settings.
    """
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    if settings.detector_ckpt_path is None:
        raise RefineError(
            f"stage={settings.stage} needs a trained detector: give detector_ckpt_path=FILE, a "
            "checkpoint of stage=panoptic"
        )
    detector = read_checkpoint(Path(settings.detector_ckpt_path))
    stage = settings.occlusion if settings.stage == "occlusion" else settings.ranking
    if settings.data.anchors != detector.sections.data.anchors:  # image sizes may differ
        raise RefineError(
            f"data.anchors differ from those of {detector.path}; choose the data= that it was "
            "trained with"
        )
    datamodule = OcclusionDataModule(settings.data, seed=settings.seed, batch_size=stage.batch_size)
    datamodule.prepare_data()
    datamodule.setup("fit")
    check_categories(detector, datamodule.categories, source=datamodule.source)
    module = _build_module(settings, detector, datamodule, stage)
    # these need panoptic quality, and Lightning refuses a progress bar that is switched off
    left_out = {"best", "wandb"} | (set() if settings.trainer.enable_progress_bar else {"progress"})
    trainer = build_trainer(
        _choose_length(settings, stage.schedule.max_steps),
        callbacks=build_all(settings.callbacks, without=left_out),
        loggers=build_all(settings.logger),
        plugins=[WholeCheckpoints()],
        folder=settings.run_dir,
    )
    if trainer.is_global_zero:
        RunFolder(settings.run_dir).write_config(settings.to_plain())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Found .* in eval mode")  # the detector is frozen
        trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    if module.result_step != trainer.global_step:
        trainer.validate(module, datamodule=datamodule, verbose=False)
    metrics: dict[str, float | int] = module.result | {"seed": settings.seed}
    if trainer.is_global_zero:
        folder = RunFolder(settings.run_dir)
        folder.write_results(metrics, settings=settings)
        for name, value in metrics.items():
            say(f"{name:32} {value:.4f}" if isinstance(value, float) else f"{name:32} {value}")
        say(f"heads: {folder.last_checkpoint}")
    return metrics


def _build_module(
    settings: TrainSettings,
    detector: Checkpoint,
    datamodule: OcclusionDataModule,
    stage: OcclusionStageOptions | RankingStageOptions,
) -> OrderModule:
    sections = Sections(data=settings.data, model=detector.sections.model, fusion=settings.fusion)
    pipeline = restore_pipeline(detector, sections)
    # heads of the detector's own checkpoint stay; one of the same name gives way
    kind = "ranking" if isinstance(stage, RankingStageOptions) else "occlusion"
    for name, options in stage.heads.items():
        pipeline.heads[name] = build_head(
            {"kind": kind, "options": asdict(options)},
            in_channels=pipeline.network.backbone.channels,
            num_things=pipeline.num_things,
        )
    config = settings.to_plain() | {"model": detector.config["model"]}
    batch_size = stage.batch_size * settings.trainer.accumulate_grad_batches
    return OrderModule(
        pipeline,
        stage,
        category_pairs=torch.from_numpy(datamodule.train_pairs),
        optimizer=stage.optimizer.scaled_to(batch_size),
        seed=settings.seed,
        record=make_record(config, detector.categories),
    )


def count_steps(settings: TrainSettings) -> int:
    """Number of training steps of the stage of ``settings.stage``."""
    if settings.stage not in HEAD_STAGES:
        return settings.trainer.max_steps
    stage = settings.occlusion if settings.stage == "occlusion" else settings.ranking
    return _choose_length(settings, stage.schedule.max_steps).max_steps


def _choose_length(settings: TrainSettings, max_steps: int) -> TrainerOptions:
    """The trainer's settings for this stage: its own length; a trial stays a trial."""
    trainer = settings.trainer
    is_trial = trainer.max_steps < settings.schedule.max_steps
    steps = min(trainer.max_steps, max_steps) if is_trial else max_steps
    interval = trainer.val_check_interval
    interval = None if interval is None else min(interval, steps)
    return replace(trainer, max_steps=steps, val_check_interval=interval)
