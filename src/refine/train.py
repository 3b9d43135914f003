"""``python -m refine.train``: train, keep the best and last checkpoints, end with the PQ table."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig

from refine.assembly import build_pipeline
from refine.checkpoint import check_categories, check_model, make_record, read_checkpoint
from refine.config.command import run_command
from refine.config.instantiate import build, build_trainer, to_options, to_plain
from refine.data.datamodule import PanopticDataModule
from refine.evaluate import build_pictures, finish
from refine.models.weights import load_backbone_weights
from refine.options import (
    DataOptions,
    FusionOptions,
    ModelOptions,
    OptimizerOptions,
    ScheduleOptions,
)
from refine.results import write_config
from refine.training.panoptic import PanopticModule


def train(cfg: DictConfig) -> dict[str, float | int]:
    """Train a configuration of ``conf/train.yaml``.

    Args:
        cfg: Composed configuration; ``run_dir`` receives config, checkpoints and results.

    Returns:
        The content of ``metrics.json``, of the best checkpoint.

    Raises:
        RefineError: Bad data, settings, weights or checkpoint.
    """
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    data = to_options(cfg.data, DataOptions)
    datamodule = PanopticDataModule(data, seed=cfg.seed)
    datamodule.prepare_data()
    datamodule.setup("fit")
    module = _build_module(cfg, datamodule, to_plain(cfg))
    if cfg.ckpt_path is not None:
        checkpoint = read_checkpoint(Path(cfg.ckpt_path))
        check_categories(checkpoint, datamodule.categories, root=data.root)
        check_model(checkpoint, to_plain(cfg.model))
    trainer = build_trainer(
        cfg.trainer,
        callbacks=[*_build_all(cfg.callbacks), build_pictures(cfg, datamodule)],
        loggers=_build_all(cfg.logger),
    )
    if trainer.is_global_zero:
        write_config(Path(cfg.run_dir), to_plain(cfg))
    trainer.fit(module, datamodule=datamodule, ckpt_path=cfg.ckpt_path, weights_only=True)
    best = getattr(trainer.checkpoint_callback, "best_model_path", "") or None
    return finish(trainer, module, datamodule, cfg=cfg, ckpt_path=best)


def _build_module(
    cfg: DictConfig, datamodule: PanopticDataModule, config: dict[str, Any]
) -> PanopticModule:
    model = to_options(cfg.model, ModelOptions)
    categories = datamodule.categories
    pipeline = build_pipeline(
        model,
        datamodule.options,
        to_options(cfg.fusion, FusionOptions),
        categories=categories,
    )
    load_backbone_weights(pipeline.network.backbone, cfg.weights, options=model.backbone)
    return PanopticModule(
        pipeline,
        categories,
        optimizer=to_options(cfg.optimizer, OptimizerOptions),
        schedule=to_options(cfg.schedule, ScheduleOptions),
        seed=cfg.seed,
        record=make_record(config, categories),
    )


def _build_all(group: DictConfig | None) -> list[Any]:
    """The objects of a group; an entry set to null is left out."""
    return [build(node) for node in (group or {}).values() if node is not None]


def _task(cfg: DictConfig) -> float:
    return float(train(cfg)["pq"])


def main() -> None:
    """Entry point of ``refine-train``."""
    run_command("train", _task)


if __name__ == "__main__":
    main()
