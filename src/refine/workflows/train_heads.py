"""``stage=occlusion`` and ``stage=ranking``: heads that order instances, on a finished detector."""

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from refine.config.instantiate import build, build_trainer, to_options, to_plain
from refine.config.settings import Sections
from refine.data.pairs.pair_datamodule import OcclusionDataModule
from refine.errors import RefineError
from refine.options import (
    DataOptions,
    FusionOptions,
    OcclusionStageOptions,
    RankingStageOptions,
)
from refine.order.heads import build_head
from refine.pipeline import Pipeline
from refine.runs.checkpoint import Checkpoint, check_categories, make_record, read_checkpoint
from refine.runs.restore import restore_pipeline
from refine.runs.results import say, write_config, write_metrics
from refine.training.order_module import OrderModule

HEAD_STAGES: dict[str, type[OcclusionStageOptions] | type[RankingStageOptions]] = {
    "occlusion": OcclusionStageOptions,
    "ranking": RankingStageOptions,
}


def train_heads(cfg: DictConfig, *, resume: Path | None = None) -> dict[str, float | int]:
    """Train the heads of the stage that a configuration of ``conf/train.yaml`` names.

    Args:
        cfg: Composed configuration; ``detector_ckpt_path`` names the detector, ``run_dir``
            receives config, checkpoint and ``metrics.json``.
        resume: A checkpoint of this very run.

    Returns:
        The content of ``metrics.json``: ``pair_accuracy_NAME`` of the heads and of the baselines.

    Raises:
        RefineError: No detector, no ordered pairs in the data, or bad settings.
    """
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    if cfg.detector_ckpt_path is None:
        raise RefineError(
            f"stage={cfg.stage} needs a trained detector: give detector_ckpt_path=FILE, a "
            "checkpoint of stage=panoptic"
        )
    detector = read_checkpoint(Path(cfg.detector_ckpt_path))
    stage = to_options(cfg[cfg.stage], HEAD_STAGES[cfg.stage])
    datamodule = OcclusionDataModule(
        _data_options(cfg, detector), seed=cfg.seed, batch_size=stage.batch_size
    )
    datamodule.prepare_data()
    datamodule.setup("fit")
    check_categories(detector, datamodule.categories, root=datamodule.options.root)
    module = _build_module(cfg, detector, datamodule, stage)
    trainer = build_trainer(
        _trainer_node(cfg, stage.schedule.max_steps),
        callbacks=_build_callbacks(cfg),
        loggers=[build(node) for node in (cfg.logger or {}).values() if node is not None],
    )
    if trainer.is_global_zero:
        write_config(Path(cfg.run_dir), to_plain(cfg))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Found .* in eval mode")  # the detector is frozen
        trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    if module.result_step != trainer.global_step:
        trainer.validate(module, datamodule=datamodule, verbose=False)
    return _finish(cfg, trainer, module)


def last_checkpoint(run_dir: Path) -> Path:
    """Where a run leaves the checkpoint of its last step."""
    return run_dir / "checkpoints" / "last.ckpt"


def _data_options(cfg: DictConfig, detector: Checkpoint) -> DataOptions:
    """The composed data; image sizes may differ from the detector's, its anchors may not."""
    data = to_options(cfg.data, DataOptions)
    recorded = to_options(OmegaConf.create(detector.config["data"]), DataOptions)
    if data.anchors != recorded.anchors:
        raise RefineError(
            f"data.anchors differ from those of {detector.path}; choose the data= that it was "
            "trained with"
        )
    return data


def _build_module(
    cfg: DictConfig,
    detector: Checkpoint,
    datamodule: OcclusionDataModule,
    stage: OcclusionStageOptions | RankingStageOptions,
) -> OrderModule:
    sections = Sections(
        data=datamodule.options,
        model=detector.sections.model,
        fusion=to_options(cfg.fusion, FusionOptions),
    )
    pipeline = restore_pipeline(detector, sections)
    _add_new_heads(pipeline, stage)
    config = to_plain(cfg) | {"model": detector.config["model"]}
    batch_size = stage.batch_size * cfg.trainer.accumulate_grad_batches
    return OrderModule(
        pipeline,
        stage,
        category_pairs=torch.from_numpy(datamodule.train_pairs),
        optimizer=stage.optimizer.scaled_to(batch_size),
        seed=cfg.seed,
        record=make_record(config, detector.categories),
    )


def _add_new_heads(pipeline: Pipeline, stage: OcclusionStageOptions | RankingStageOptions) -> None:
    """Heads of the detector's own checkpoint stay; one of the same name gives way."""
    kind = "ranking" if isinstance(stage, RankingStageOptions) else "occlusion"
    for name, options in stage.heads.items():
        head: nn.Module = build_head(
            {"kind": kind, "options": asdict(options)},
            in_channels=pipeline.network.backbone.channels,
            num_things=pipeline.num_things,
        )
        pipeline.heads[name] = head


def _trainer_node(cfg: DictConfig, max_steps: int) -> DictConfig:
    """The trainer's settings for this stage: its own length; a trial stays a trial."""
    node: DictConfig = cfg.trainer.copy()
    is_trial = cfg.trainer.max_steps < cfg.schedule.max_steps
    node.max_steps = min(cfg.trainer.max_steps, max_steps) if is_trial else max_steps
    node.val_check_interval = min(cfg.trainer.val_check_interval, node.max_steps)
    return node


def _build_callbacks(cfg: DictConfig) -> list[Any]:
    """Those of the group that need no panoptic quality."""
    group: Mapping[Any, Any] = cfg.callbacks or {}
    left_out = {"best", "wandb"} | (set() if cfg.trainer.enable_progress_bar else {"progress"})
    return [build(n) for name, n in group.items() if n is not None and name not in left_out]


def _finish(cfg: DictConfig, trainer: pl.Trainer, module: OrderModule) -> dict[str, float | int]:
    metrics: dict[str, float | int] = module.result | {"seed": cfg.seed}
    if trainer.is_global_zero:
        write_metrics(Path(cfg.run_dir), metrics, config=to_plain(cfg))
        for name, value in metrics.items():
            say(f"{name:32} {value:.4f}" if isinstance(value, float) else f"{name:32} {value}")
        say(f"heads: {last_checkpoint(Path(cfg.run_dir))}")
    return metrics
