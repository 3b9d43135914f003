"""``stage=all``: the whole recipe, one stage after the other, and its final evaluation."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from refine.config.instantiate import to_options, to_plain
from refine.config.settings import Sections
from refine.data.datamodule import PanopticDataModule
from refine.errors import RefineError
from refine.evaluate import evaluate_pipeline
from refine.options import DataOptions, FusionOptions, ModelOptions, RelationsOptions
from refine.order.heads import needed_head
from refine.runs.checkpoint import read_checkpoint
from refine.runs.restore import restore_pipeline
from refine.runs.results import changed_settings, is_finished, read_metrics, say
from refine.workflows.train_heads import last_checkpoint

TrainStage = Callable[[DictConfig, Path | None], dict[str, float | int]]


def train_all(cfg: DictConfig, train_stage: TrainStage) -> dict[str, float | int]:
    """Train every stage of ``cfg.all_stages``, then evaluate with all heads.

    Each stage has a folder of its own in the run's. Interrupted, the same command goes on: finished
    stages are kept, the interrupted one is resumed from its last checkpoint.

    Args:
        cfg: Composed configuration of ``conf/train.yaml``.
        train_stage: Trains one stage.

    Returns:
        The content of ``metrics.json`` of the final evaluation.

    Raises:
        RefineError: The folder holds another run, or a stage fails.
    """
    if cfg.ckpt_path is not None:
        raise RefineError("stage=all resumes by itself: give hydra.run.dir=FOLDER, not ckpt_path=")
    if not cfg.all_stages or cfg.all_stages[0] != "panoptic":
        raise RefineError(
            f"all_stages={list(cfg.all_stages)}: the detector comes first; the paper's recipe is "
            "[panoptic, occlusion]"
        )
    run_dir = Path(cfg.run_dir)
    if is_finished(run_dir, to_plain(cfg)):
        say(f"finished before: {run_dir}")
        return read_metrics(run_dir)
    checkpoint_path: Path | None = None
    for stage in cfg.all_stages:
        stage_cfg = _configure_stage(cfg, stage, checkpoint_path)
        _run_stage(stage_cfg, train_stage)
        checkpoint_path = find_checkpoint(Path(stage_cfg.run_dir))
    assert checkpoint_path is not None
    checkpoint = read_checkpoint(checkpoint_path)
    options = Sections(
        model=to_options(cfg.model, ModelOptions),
        data=to_options(cfg.data, DataOptions),
        fusion=to_options(cfg.fusion, FusionOptions),
    )
    pipeline = restore_pipeline(checkpoint, options)
    datamodule = PanopticDataModule(options.data, seed=cfg.seed)
    datamodule.prepare_data()
    datamodule.setup("validate")
    return evaluate_pipeline(cfg, pipeline, datamodule, options=options)


def require_no_head(cfg: DictConfig) -> None:
    """Refuse a detector's training whose validation would need a head that is not there.

    Raises:
        RefineError: The fusion asks one.
    """
    relations = to_options(cfg.fusion, FusionOptions).relations
    if needed_head(relations) is not None:
        raise RefineError(
            f"fusion.relations.kind={relations.kind} needs a head, which stage=panoptic does not "
            "train: add stage=all, or fusion.relations.kind=score"
        )


def find_checkpoint(run_dir: Path) -> Path:
    """The checkpoint that a finished stage hands on: its best, or else its last one."""
    best = run_dir / "checkpoints" / "best.ckpt"
    return best if best.is_file() else last_checkpoint(run_dir)


def _configure_stage(cfg: DictConfig, stage: str, detector: Path | None) -> DictConfig:
    stage_cfg = cfg.copy()
    stage_cfg.stage = stage
    stage_cfg.run_dir = str(Path(cfg.run_dir) / stage)
    stage_cfg.draw = 0
    stage_cfg.detector_ckpt_path = None if detector is None else str(detector)
    if stage == "panoptic":  # there is no head yet; AP is that of the final evaluation
        stage_cfg.fusion.relations = OmegaConf.structured(RelationsOptions())
        stage_cfg.compute_ap = False
    return stage_cfg


def _run_stage(cfg: DictConfig, train_stage: TrainStage) -> None:
    run_dir = Path(cfg.run_dir)
    if is_finished(run_dir, to_plain(cfg)):
        say(f"stage {cfg.stage}: finished before")
        return
    _require_same_run(run_dir, to_plain(cfg))
    last = last_checkpoint(run_dir)
    say(f"stage {cfg.stage}: {'goes on' if last.is_file() else 'starts'}")
    train_stage(cfg, last if last.is_file() else None)


def _require_same_run(run_dir: Path, config: Mapping[str, Any]) -> None:
    recorded = run_dir / "config.yaml"
    if not recorded.is_file():
        return
    changed = changed_settings(to_plain(OmegaConf.load(recorded)), config)
    if changed:
        raise RefineError(
            f"{run_dir} holds a run with another {', '.join(changed)}; choose another "
            "folder with hydra.run.dir=FOLDER"
        )
