"""Weights & Biases: one run a job, finished with it, offline where there is no API key.

Lightning's own ``WandbLogger`` does not fit a sweep, whose jobs share a process: it continues a run
that is open, never finishes its own, and sets ``WANDB_MODE`` for all that follows.
"""

import csv
import json
import logging
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pytorch_lightning.loggers.logger import (  # type: ignore[attr-defined] # documented to be here
    Logger,
    rank_zero_experiment,
)
from pytorch_lightning.utilities import rank_zero_only

from refine.errors import RefineError

STEP_KEY = "trainer/global_step"
TABLE_KEY = "val/per_category"
OFFLINE_RUNS = "wandb/offline-run-*"
_MODES = ("auto", "online", "offline")
_CHECKPOINTS = {"none": None, "best": "best.ckpt", "all": "*.ckpt"}
_MAX_TAG_LENGTH = 64
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the run of a job is called and filed under.

    Attributes:
        folder: ``wandb/`` in it receives the run's files.
        pattern: Finds the offline runs of this job, or of all jobs of its sweep, in a shell.
        name: Of the run.
        kind: The command, ``train`` or ``evaluate``.
        config: The resolved configuration, plain containers.
        group: The sweep that it belongs to.
        row: Of the ablation: what the job changes but for its seed, so that the runs of a row
            differ in their seeds alone.
        tags: Choices that runs are looked up by.
    """

    folder: Path
    pattern: str
    name: str
    kind: str
    config: Mapping[str, Any]
    group: str | None = None
    row: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(slots=True)
class _Process:
    """What goes on in this process: at most one job, and at most one open run.

    Attributes:
        job: Of Hydra; None outside of it.
        run: ``wandb.Run``.
        folder: The ``run_dir`` of the logger that started it.
        announced: The pattern that the user was last told of.
        checkpoints: Folders and patterns of the files that become artifacts.
    """

    job: Job | None = None
    run: Any = None
    folder: Path | None = None
    announced: str = ""
    checkpoints: dict[Path, str] = field(default_factory=dict)


_process = _Process()


class WandbRun(Logger):
    """Logs to the job's run, and starts it when something is first logged.

    All loggers of a Hydra job share one run, which ends with the job
    (:class:`~refine.callbacks.wandb_job.WandbJob`). Without Hydra a run ends when its training
    fails, when one in another folder starts, or with the process.

    Args:
        run_dir: The run's folder.
        project: Of W&B.
        entity: User or team; None for the account's default.
        group: Of runs; None for the name of the sweep's folder.
        tags: Beside those of the job.
        mode: ``auto`` (offline without an API key; ``WANDB_MODE`` is heeded), ``online`` or
            ``offline``.
        checkpoints: Those of ``run_dir/checkpoints`` that become artifacts when the run ends:
            ``none``, ``best`` or ``all``.
    """

    def __init__(
        self,
        run_dir: str,
        *,
        project: str = "refine",
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        mode: str = "auto",
        checkpoints: str = "none",
    ) -> None:
        super().__init__()
        self.run_dir = Path(run_dir)
        self.project = project
        self.entity = entity
        self.group = group
        self.tags = tuple(tags)
        self.mode = mode
        self.checkpoints = checkpoints

    @property
    def name(self) -> str:
        """The project."""
        return self.project

    @property
    def version(self) -> str | None:
        """The id of the run, once it has started."""
        return None if _process.run is None else str(_process.run.id)

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self.run_dir)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The ``wandb.Run``, started if need be; a dummy on other processes than the first.

        Raises:
            RefineError: W&B is not installed or refuses, or a setting is not one of its choices.
        """
        if _process.run is not None and not self._shares_run():
            finish_run()
        if _process.run is None:
            self._check_settings()
            _process.run, _process.folder = self._start(), self.run_dir
        pattern = _CHECKPOINTS[self.checkpoints]
        if pattern is not None:
            _process.checkpoints[self.run_dir / "checkpoints"] = pattern
        return _process.run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log values under their names; ``trainer/global_step`` is the x axis."""
        self.experiment.log({**metrics, **({} if step is None else {STEP_KEY: step})})

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Nothing: the run has the whole configuration from its start."""

    @rank_zero_only
    def log_results(self) -> None:
        """What the run's folder holds at its end: ``metrics.json`` and ``per_category.csv``."""
        metrics = json.loads((self.run_dir / "metrics.json").read_text(encoding="utf-8"))
        values = {f"val/{key}": value for key, value in metrics.items()}
        table = self.run_dir / "per_category.csv"
        if table.is_file():
            with table.open(newline="", encoding="utf-8") as lines:
                header, *rows = csv.reader(lines)
            values[TABLE_KEY] = to_table(header, [_to_numbers(row) for row in rows])
        self.experiment.log(values)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """A failed training ends the run; after a successful one there is more to come."""
        if status != "success":
            finish_run(exit_code=1)

    def _shares_run(self) -> bool:
        return _process.job is not None or _process.folder == self.run_dir

    def _check_settings(self) -> None:
        for key, choices in (("mode", _MODES), ("checkpoints", tuple(_CHECKPOINTS))):
            value = getattr(self, key)
            if value not in choices:
                raise RefineError(f"logger.wandb.{key}={value}: expected one of {choices}")

    def _start(self) -> Any:
        wandb = _import_wandb()
        job = _process.job or _job_of_folder(self.run_dir)
        tags = dict.fromkeys(tag[:_MAX_TAG_LENGTH] for tag in (*job.tags, *self.tags))
        job.folder.mkdir(parents=True, exist_ok=True)  # else wandb takes a temporary one
        try:
            mode = self._choose_mode(wandb, job)
            run = wandb.init(
                project=self.project,
                entity=self.entity,
                name=job.name,
                group=self.group or job.group,
                job_type=job.kind,
                tags=list(tags),
                config={**job.config, "row": job.row, "ablation": job.group},
                dir=str(job.folder),
                mode=mode,
                reinit="create_new",  # a run of the user's own stays open, and apart
                settings=wandb.Settings(silent=mode == "offline"),
            )
        except wandb.Error as error:
            reason = " ".join(str(error).split())
            raise RefineError(
                f"W&B: {reason} (logger.wandb.mode=offline needs no account)"
            ) from None
        run.define_metric(STEP_KEY)
        run.define_metric("*", step_metric=STEP_KEY, step_sync=True)
        return run

    def _choose_mode(self, wandb: Any, job: Job) -> str | None:
        """None leaves it to W&B, which knows the user."""
        asked = os.environ.get("WANDB_MODE") if self.mode == "auto" else self.mode
        mode = asked
        if asked is None and not wandb.login(prompt=False, verify=False):
            mode = "offline"
        if mode == "offline" and _process.announced != job.pattern:
            why = "as asked" if asked else "for want of an API key (wandb login)"
            _log.warning("W&B logs offline, %s; to send it: wandb sync %s", why, job.pattern)
            _process.announced = job.pattern
        return mode


def begin_job(job: Job) -> None:
    """From here on, all loggers of this process share the job's run."""
    finish_run()
    _process.job = job


def end_job(*, exit_code: int) -> None:
    """Finish the job's run, if it had one."""
    finish_run(exit_code=exit_code)
    _process.job = None


def finish_run(*, exit_code: int = 0) -> None:
    """Log the checkpoints, as far as they are wanted, and close the open run, if there is one.

    Args:
        exit_code: 0 for a run that did what it was to do.
    """
    run, checkpoints = _process.run, _process.checkpoints
    _process.run, _process.folder, _process.checkpoints = None, None, {}
    if run is None:
        return
    try:
        for folder, pattern in checkpoints.items():
            for path in sorted(folder.glob(pattern)):
                _log_checkpoint(run, path)
    finally:
        run.finish(exit_code=exit_code)


def to_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """A ``wandb.Table``."""
    return _import_wandb().Table(columns=list(columns), data=[list(row) for row in rows])


def to_pictures(pictures: Sequence[Any], captions: Sequence[str]) -> list[Any]:
    """``wandb.Image`` of each ``[H, W, 3]`` uint8 picture; all of one size, as W&B wants them."""
    image = _import_wandb().Image
    return [
        image(picture, caption=caption, file_type="jpg")
        for picture, caption in zip(pictures, captions, strict=True)
    ]


def _log_checkpoint(run: Any, path: Path) -> None:
    artifact = _import_wandb().Artifact(f"{path.stem}-{run.id}", type="model")
    artifact.add_file(str(path))
    run.log_artifact(artifact, aliases=[path.stem])


def _import_wandb() -> Any:
    try:
        import wandb
    except ModuleNotFoundError:
        raise RefineError(
            "logger=wandb needs the wandb package: pip install 'refine-panoptic[wandb]'"
        ) from None
    return wandb


def _job_of_folder(run_dir: Path) -> Job:
    """Outside of Hydra: what the folder says."""
    recorded = run_dir / "config.yaml"
    config: Any = OmegaConf.to_container(OmegaConf.load(recorded)) if recorded.is_file() else {}
    pattern = f"{run_dir}/{OFFLINE_RUNS}"
    return Job(folder=run_dir, pattern=pattern, name=run_dir.name, kind="train", config=config)


def _to_numbers(cells: Sequence[str]) -> list[Any]:
    """Cells of ``per_category.csv`` with numbers as numbers, but for the category's name."""
    category_id, name, *values = cells
    return [int(category_id), name, *(float(v) for v in values)]
