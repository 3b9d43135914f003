"""``python -m refine.train``: train, keep the best and last checkpoints, end with the PQ table.

``stage=`` says what: the detector (``panoptic``, the default), heads that order its instances
(``occlusion``, ``ranking``), or the whole recipe one after the other (``all``).
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from refine.config.command import run_command
from refine.config.instantiate import build, build_trainer, to_options, to_plain
from refine.config.settings import Sections
from refine.data.datamodule import PanopticDataModule
from refine.errors import RefineError
from refine.evaluate import build_pictures, finish
from refine.options import (
    DataOptions,
    FusionOptions,
    ModelOptions,
    OptimizerOptions,
    ScheduleOptions,
)
from refine.runs.checkpoint import check_categories, check_model, make_record, read_checkpoint
from refine.runs.restore import build_pipeline
from refine.runs.results import changed_settings, is_finished, read_metrics, say, write_config
from refine.training.detector_module import DetectorModule
from refine.weights import apply_pixel_stats, load_backbone_weights
from refine.workflows.recipe import require_no_head, train_all
from refine.workflows.train_heads import HEAD_STAGES, last_checkpoint, train_heads


def train(cfg: DictConfig) -> dict[str, float | int]:
    """Train a configuration of ``conf/train.yaml``.

    Args:
        cfg: Composed configuration; ``run_dir`` receives config, checkpoints and results.

    Returns:
        The content of ``metrics.json``; of the best checkpoint, where a detector is trained.

    Raises:
        RefineError: Bad data, settings, weights or checkpoint.
    """
    limit_validation(cfg)
    resume = None if cfg.ckpt_path is None else Path(cfg.ckpt_path)
    if cfg.stage == "all":
        return train_all(cfg, train_stage)
    return train_stage(cfg, resume)


def train_stage(cfg: DictConfig, resume: Path | None) -> dict[str, float | int]:
    """Train the one stage that a configuration names.

    Args:
        cfg: Composed configuration.
        resume: A checkpoint of this stage to go on from.

    Returns:
        The content of ``metrics.json``.
    """
    if cfg.stage in HEAD_STAGES:
        return train_heads(cfg, resume=resume)
    if cfg.stage != "panoptic":
        raise RefineError(f"stage={cfg.stage}: expected panoptic, {', '.join(HEAD_STAGES)} or all")
    return _train_panoptic(cfg, resume)


def _train_panoptic(cfg: DictConfig, resume: Path | None) -> dict[str, float | int]:
    require_no_head(cfg)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    data = to_options(cfg.data, DataOptions)
    datamodule = PanopticDataModule(data, seed=cfg.seed)
    datamodule.prepare_data()
    datamodule.setup("fit")
    module = _build_module(cfg, datamodule, to_plain(cfg))
    if resume is not None:
        checkpoint = read_checkpoint(resume)
        check_categories(checkpoint, datamodule.categories, root=data.root)
        check_model(checkpoint, to_plain(cfg.model))
    trainer = build_trainer(
        cfg.trainer,
        callbacks=[*_build_callbacks(cfg), build_pictures(cfg, datamodule)],
        loggers=_build_all(cfg.logger),
    )
    if trainer.is_global_zero:
        write_config(Path(cfg.run_dir), to_plain(cfg))
    trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    best = getattr(trainer.checkpoint_callback, "best_model_path", "") or None
    if not _is_evaluated(trainer, module):
        trainer.validate(
            module, datamodule=datamodule, ckpt_path=best, verbose=False, weights_only=True
        )
    return finish(trainer, module, datamodule, cfg=cfg)


def _is_evaluated(trainer: pl.Trainer, module: DetectorModule) -> bool:
    """Whether the validation after the last step was the best: it need not be repeated."""
    best_score = getattr(trainer.checkpoint_callback, "best_model_score", None)
    if module.result is None or best_score is None or not module.is_final_evaluation:
        return False
    return module.result_step == trainer.global_step and math.isclose(
        float(best_score), module.result.metrics["pq"], rel_tol=1e-6
    )


def _build_module(
    cfg: DictConfig, datamodule: PanopticDataModule, config: dict[str, Any]
) -> DetectorModule:
    model = to_options(cfg.model, ModelOptions)
    categories = datamodule.categories
    sections = Sections(
        data=datamodule.options, model=model, fusion=to_options(cfg.fusion, FusionOptions)
    )
    pipeline = build_pipeline(sections, categories=categories)
    weights = choose_weights(cfg, datamodule.options)
    if weights == "none" and datamodule.options.toy is None:
        say("random weights: training on photographs usually starts from published ones (weights=)")
    stats = load_backbone_weights(pipeline.network.backbone, weights, options=model.backbone)
    apply_pixel_stats(pipeline.network, stats)
    return DetectorModule(
        pipeline,
        categories,
        optimizer=to_options(cfg.optimizer, OptimizerOptions).scaled_to(
            datamodule.options.batch_size * cfg.trainer.accumulate_grad_batches
        ),
        schedule=to_options(cfg.schedule, ScheduleOptions),
        seed=cfg.seed,
        record=make_record(config, categories),
        compute_ap=cfg.compute_ap,
    )


def choose_weights(cfg: DictConfig, data: DataOptions) -> str:
    """What ``weights=auto`` stands for: the experiment's own, but none on generated scenes."""
    if cfg.weights != "auto":
        return str(cfg.weights)
    return "none" if data.toy is not None else str(cfg.pretrained)


def limit_validation(cfg: DictConfig) -> None:
    """A trial of fewer steps than its schedule is not to validate longer than it trains."""
    steps = cfg.trainer.max_steps
    if cfg.trainer.limit_val_batches is None and 0 < steps < cfg.schedule.max_steps:
        cfg.trainer.limit_val_batches = steps
        say(
            f"trial of {steps} of {cfg.schedule.max_steps} steps: validation is limited to "
            f"{steps} batches (trainer.limit_val_batches=1.0 validates all)"
        )


def _build_callbacks(cfg: DictConfig) -> list[Any]:
    """Those of the group; Lightning refuses a progress bar that is switched off."""
    group = dict(cfg.callbacks or {})
    if not cfg.trainer.enable_progress_bar:
        group.pop("progress", None)
    return _build_all(group)


def _build_all(group: Mapping[Any, Any] | None) -> list[Any]:
    """The objects of a group; an entry set to null is left out."""
    return [build(node) for node in (group or {}).values() if node is not None]


def train_job(cfg: DictConfig) -> dict[str, float | int]:
    """Train a job of a multirun: kept if it was finished before, resumed if it was interrupted.

    A directory that holds a run of another configuration is trained anew.
    """
    limit_validation(cfg)  # before the comparison with what a finished run has recorded
    run_dir, config = Path(cfg.run_dir), to_plain(cfg)
    if is_finished(run_dir, config):
        say(f"finished before: {run_dir}")
        return read_metrics(run_dir)
    last = last_checkpoint(run_dir)
    if cfg.stage == "all" or not last.is_file():  # the recipe resumes its stages by itself
        return train(cfg)
    # config.yaml may be newer than the checkpoint, which knows what it is of
    if changed_settings(read_checkpoint(last).config, config):
        return train(cfg)
    say(f"goes on: {run_dir}")
    return train_stage(cfg, last)


def _task(cfg: DictConfig) -> float:
    is_multirun = HydraConfig.get().mode == RunMode.MULTIRUN
    return _objective(train_job(cfg) if is_multirun else train(cfg))


def _objective(metrics: Mapping[str, float | int]) -> float:
    """What a sweep compares: PQ, or the first figure of a stage that has none."""
    return float(metrics.get("pq", next(iter(metrics.values()))))


def main() -> None:
    """Entry point of ``refine-train``."""
    run_command("train", _task)


if __name__ == "__main__":
    main()
