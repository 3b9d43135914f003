"""Trains the stage that is asked for, or the whole recipe (``stage=all``)."""

from dataclasses import replace
from pathlib import Path

from refine.config.instantiate import check_trainer
from refine.config.settings import TrainSettings
from refine.errors import RefineError
from refine.options import RelationsOptions
from refine.runs.checkpoint import find_readable, read_checkpoint
from refine.runs.console import say
from refine.runs.folder_lock import lock_folder
from refine.runs.restore import restore_pipeline
from refine.runs.run_folder import RunFolder
from refine.workflows.choose_settings import choose_from_data
from refine.workflows.final_evaluation import evaluate_pipeline, open_data
from refine.workflows.train_detector import train_detector
from refine.workflows.train_heads import HEAD_STAGES, count_steps, train_heads


def train(settings: TrainSettings) -> dict[str, float | int]:
    """Train the stage of ``settings.stage``; ``run_dir`` receives config, checkpoints, results.

    What the folder holds of these settings is kept: a finished run is not repeated, an interrupted
    one goes on. Returns the content of ``metrics.json``; of the best checkpoint, where a detector
    is trained.

    Raises:
        RefineError: Bad data, settings, weights or checkpoint; or the folder holds a run of other
            settings, or another process.
    """
    check_trainer(settings.trainer)
    # before the comparison with what a run has recorded
    settings = limit_validation(choose_from_data(settings))
    folder = RunFolder(settings.run_dir)
    with lock_folder(folder.path):
        if settings.stage == "all":
            return _train_all(settings)  # resumes its stages by itself
        resume = None if settings.ckpt_path is None else Path(settings.ckpt_path)
        if resume is None or folder.path.resolve() not in resume.resolve().parents:
            state = folder.claim(settings)
            if state.status == "finished":
                return folder.read_finished(settings) or {}
            if state.checkpoint is not None:
                say(f"resumes: {state.checkpoint}")
                return _train_stage(settings, state.checkpoint)
        if resume is not None and (checkpoint := find_readable(resume)) is not None:
            resume, before = checkpoint.path, RunFolder(checkpoint.path.absolute().parents[1])
            if checkpoint.step >= count_steps(settings) and (before.path / "DONE").is_file():
                say(f"{resume}: nothing left to train after step {checkpoint.step}; kept")
                return before.read_metrics()
        return _train_stage(settings, resume)


def limit_validation(settings: TrainSettings) -> TrainSettings:
    """Keep a trial of fewer steps than its schedule from validating longer than it trains."""
    steps, is_limited = settings.trainer.max_steps, settings.trainer.limit_val_batches is not None
    if is_limited or not 0 < steps < settings.schedule.max_steps:
        return settings
    say(
        f"trial of {steps} of {settings.schedule.max_steps} steps: validation is limited to "
        f"{steps} batches (trainer.limit_val_batches=1.0 validates all)"
    )
    return replace(settings, trainer=replace(settings.trainer, limit_val_batches=steps))


def _train_stage(settings: TrainSettings, resume: Path | None) -> dict[str, float | int]:
    if settings.stage in HEAD_STAGES:
        return train_heads(settings, resume)
    if settings.stage != "panoptic":
        raise RefineError(
            f"stage={settings.stage}: expected panoptic, {', '.join(HEAD_STAGES)} or all"
        )
    return train_detector(settings, resume)


def _train_all(settings: TrainSettings) -> dict[str, float | int]:
    """Train every stage of ``settings.all_stages``, then evaluate with all heads.

    Each stage has a folder of its own in the run's. After an interruption the same command goes
    on: finished stages are kept, the interrupted one is resumed from its last checkpoint.
    """
    if settings.ckpt_path is not None:
        raise RefineError("stage=all resumes by itself: give hydra.run.dir=FOLDER, not ckpt_path=")
    if not settings.all_stages or settings.all_stages[0] != "panoptic":
        raise RefineError(
            f"all_stages={list(settings.all_stages)}: the detector comes first; the paper's recipe "
            "is [panoptic, occlusion]"
        )
    folder = RunFolder(settings.run_dir)
    finished = folder.read_finished(settings)
    if finished is not None:
        return finished
    last: Path | None = None
    for stage in settings.all_stages:
        last = _run_stage(_choose_stage(settings, stage, detector=last))
    assert last is not None
    pipeline = restore_pipeline(read_checkpoint(last), settings)
    datamodule = open_data(settings.data, seed=settings.seed)
    return evaluate_pipeline(settings, pipeline, datamodule, config=settings.to_plain())


def _choose_stage(settings: TrainSettings, stage: str, *, detector: Path | None) -> TrainSettings:
    chosen = replace(
        settings.in_folder(Path(settings.run_dir) / stage),
        stage=stage,
        draw=0,
        detector_ckpt_path=None if detector is None else str(detector),
    )
    if stage != "panoptic":
        return chosen
    # there is no head yet; AP is that of the final evaluation
    fusion = replace(settings.fusion, relations=RelationsOptions())
    return replace(chosen, fusion=fusion, compute_ap=False)


def _run_stage(settings: TrainSettings) -> Path:
    """The checkpoint that the stage hands on."""
    folder = RunFolder(settings.run_dir)
    state = folder.claim(settings)
    doing = {"finished": "finished before", "resumable": "resumes", "new": "starts"}[state.status]
    say(f"stage {settings.stage}: {doing}")
    if state.status != "finished":
        _train_stage(settings, state.checkpoint)
    return folder.final_checkpoint
