"""``python -m refine.evaluate``: PQ, AP and speed of a checkpoint."""

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from refine.assembly import restore_pipeline
from refine.callbacks.pictures import Pictures
from refine.checkpoint import check_categories, read_checkpoint
from refine.config.command import run_command
from refine.config.instantiate import build_trainer, to_plain
from refine.config.overrides import from_checkpoint
from refine.data.datamodule import PanopticDataModule
from refine.metrics.records import records_to_csv
from refine.metrics.report import QualityTable, to_csv
from refine.options import OptimizerOptions, ScheduleOptions
from refine.results import print_table, say, write_config, write_results
from refine.training.panoptic import PanopticModule


def evaluate(cfg: DictConfig, overrides: Sequence[str]) -> dict[str, float | int]:
    """Evaluate the checkpoint of a configuration of ``conf/evaluate.yaml``.

    Args:
        cfg: Composed configuration; ``run_dir`` receives the results.
        overrides: What the command line named; the rest comes from the checkpoint.

    Returns:
        The content of ``metrics.json``.

    Raises:
        RefineError: Bad data, settings or checkpoint.
    """
    checkpoint = read_checkpoint(Path(cfg.ckpt_path))
    options = from_checkpoint(cfg, checkpoint.config, overrides)
    datamodule = PanopticDataModule(options["data"], seed=cfg.seed)
    datamodule.prepare_data()
    datamodule.setup("validate")
    check_categories(checkpoint, datamodule.categories, root=options["data"].root)
    module = PanopticModule(
        restore_pipeline(checkpoint, options["model"], options["data"], options["fusion"]),
        datamodule.categories,
        optimizer=OptimizerOptions(),
        schedule=ScheduleOptions(),
        seed=cfg.seed,
        record={},
        compute_ap=cfg.compute_ap,
    )
    trainer = build_trainer(cfg.trainer, callbacks=[build_pictures(cfg, datamodule)], loggers=[])
    if trainer.is_global_zero:
        write_config(Path(cfg.run_dir), to_plain(cfg))
    trainer.validate(module, datamodule=datamodule, verbose=False)
    return finish(trainer, module, datamodule, cfg=cfg)


def build_pictures(cfg: DictConfig, datamodule: PanopticDataModule) -> Pictures:
    """The callback that draws ``cfg.draw`` images of the final evaluation."""
    return Pictures(Path(cfg.run_dir) / "pictures", datamodule.categories, count=cfg.draw)


def finish(
    trainer: pl.Trainer,
    module: PanopticModule,
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
    return float(evaluate(cfg, HydraConfig.get().overrides.task)["pq"])


def main() -> None:
    """Entry point of ``refine-evaluate``."""
    run_command("evaluate", _task)


if __name__ == "__main__":
    main()
