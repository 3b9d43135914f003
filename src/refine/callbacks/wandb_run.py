"""Weights & Biases: Lightning's logger, with one run per job that is finished with the job.

Lightning's ``WandbLogger`` alone does not fit a sweep, whose jobs share a process: it continues any
open run and never finishes its own.
"""

import csv
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import (  # type: ignore[attr-defined] # documented to be here
    rank_zero_experiment,
)
from pytorch_lightning.utilities import rank_zero_only

from refine.config.job import Job, JobCallback
from refine.errors import RefineError

STEP_KEY = "trainer/global_step"
TABLE_KEY = "val/per_category"
_MODES = ("auto", "online", "offline")
_CHECKPOINTS = {"none": None, "best": "best.ckpt", "all": "*.ckpt"}
_TAG_CHOICES = ("experiment", "sweep")
_MAX_TAG_LENGTH = 64
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Process:
    """At most one job and one open run per process."""

    job: Job | None = None  # None in a training that was started from Python
    run: Any = None  # the open wandb.Run
    run_dir: Path | None = None  # of the logger that started the run
    checkpoints: dict[Path, str] = field(default_factory=dict)  # folder: pattern of artifacts
    announced: str = ""  # the hint on ``wandb sync`` that was shown last


_process = _Process()


class WandbRun(WandbLogger):
    """Logs to the run of the job, and starts it when something is first logged.

    All loggers of a job share one run, which ends with the job (:class:`WandbJob`). In a training
    that was started from Python, a run belongs to a folder; it ends when the training fails, when a
    run in another folder starts, or with the process. A run that was opened by the user stays open.

    Args:
        run_dir: Folder of the run.
        project: Project of W&B.
        entity: User or team; None for the default of the account.
        group: Group of runs; None for the name of the sweep's folder.
        tags: Tags in addition to the choices of the job.
        mode: ``auto`` (offline without an API key, unless ``WANDB_MODE`` is set), ``online`` or
            ``offline``.
        checkpoints: Files of ``run_dir/checkpoints`` that become artifacts when the run ends:
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
        _import_wandb()
        super().__init__(save_dir=run_dir, project=project)
        self.run_dir = Path(run_dir)
        self.entity = entity
        self.group = group
        self.tags = tuple(tags)
        self.mode = mode
        self.checkpoints = checkpoints

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The ``wandb.Run``, started if need be; a dummy on all processes but the first.

        A ``RefineError`` if W&B refuses or a setting is not one of its choices.
        """
        if _process.job is None and _process.run_dir != self.run_dir:
            finish_run()
        for key, choices in (("mode", _MODES), ("checkpoints", tuple(_CHECKPOINTS))):
            if getattr(self, key) not in choices:
                raise RefineError(
                    f"logger.wandb.{key}={getattr(self, key)}: expected one of {', '.join(choices)}"
                )
        if _process.run is None:
            _process.run, _process.run_dir = self._start_run(), self.run_dir
        pattern = _CHECKPOINTS[self.checkpoints]
        if pattern is not None:
            _process.checkpoints[self.run_dir / "checkpoints"] = pattern
        self._experiment = _process.run
        return _process.run

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run if the training has failed; otherwise there is more to come."""
        if status != "success":
            finish_run(exit_code=1)

    @rank_zero_only
    def log_results(self) -> None:
        """Log ``metrics.json`` and ``per_category.csv`` of the run's folder."""
        metrics = json.loads((self.run_dir / "metrics.json").read_text(encoding="utf-8"))
        self.log_metrics({f"val/{key}": value for key, value in metrics.items()})
        table = self.run_dir / "per_category.csv"
        if table.is_file():
            with table.open(newline="", encoding="utf-8") as lines:
                columns, *rows = csv.reader(lines)
            numbers = [[int(k), name, *map(float, values)] for k, name, *values in rows]
            self.log_table(TABLE_KEY, columns, numbers)

    def _start_run(self) -> Any:
        wandb, job = _import_wandb(), _process.job
        if job is None:  # the job of a training that was started from Python
            path = self.run_dir / "config.yaml"
            config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
            job = Job(command="train", run_dir=self.run_dir, config=config)
        job.run_dir.mkdir(parents=True, exist_ok=True)  # else wandb takes a temporary folder
        try:
            mode = self._choose_mode(job)
            run = wandb.init(
                project=self.name,
                entity=self.entity,
                **_describe_run(job, self.group, self.tags),
                mode=mode,
                reinit="create_new",  # a run of the user's own stays open, and apart
                settings=wandb.Settings(silent=mode == "offline"),
            )
        except wandb.Error as error:
            reason = " ".join(str(error).split())
            hint = "logger.wandb.mode=offline needs no account"
            raise RefineError(f"W&B: {reason} ({hint})") from None
        run.define_metric(STEP_KEY)
        run.define_metric("*", step_metric=STEP_KEY, step_sync=True)
        return run

    def _choose_mode(self, job: Job) -> str | None:
        """The mode of W&B; None leaves the choice to W&B, which knows the user."""
        asked = mode = os.environ.get("WANDB_MODE") if self.mode == "auto" else self.mode
        if asked is None and not _import_wandb().login(prompt=False, verify=False):
            mode = "offline"
        runs = f"{job.sweep_dir}/*" if job.sweep_dir else job.run_dir
        hint = f"wandb sync {runs}/wandb/offline-run-*"
        if mode == "offline" and _process.announced != hint:
            why = "as asked" if asked else "because there is no API key (wandb login)"
            _log.warning("W&B logs offline %s; to upload the runs later: %s", why, hint)
            _process.announced = hint
        return mode


class WandbJob(JobCallback):
    """Ties a W&B run to a job: named after it, and finished with it, however it ends.

    A job without a training, such as one of ``refine.evaluate``, gets a run that holds its results.
    A job that was finished before, or that fails before anything is logged, gets none. Settings are
    those of :class:`WandbRun` except ``run_dir``.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings
        self._done_before: int | None = None

    def start(self, job: Job) -> None:
        """From here on, all loggers of this process share the run of the job."""
        finish_run()
        _process.job, self._done_before = job, _read_done_time(job.run_dir)

    def end(self, job: Job, *, failed: bool) -> None:
        """Log the results of the job and finish its run."""
        try:
            if not failed and _read_done_time(job.run_dir) not in (None, self._done_before):
                WandbRun(str(job.run_dir), **self.settings).log_results()
        finally:
            finish_run(exit_code=int(failed))
            _process.job = None


def finish_run(*, exit_code: int = 0) -> None:
    """Upload the wanted checkpoints and close the open run, if any; exit code 1 is a failure."""
    run, checkpoints = _process.run, _process.checkpoints
    _process.run, _process.run_dir, _process.checkpoints = None, None, {}
    if run is None:
        return
    try:
        for path in (p for folder, name in checkpoints.items() for p in sorted(folder.glob(name))):
            artifact = _import_wandb().Artifact(f"{path.stem}-{run.id}", type="model")
            artifact.add_file(str(path))
            run.log_artifact(artifact, aliases=[path.stem])
    finally:
        run.finish(exit_code=exit_code)


def _describe_run(job: Job, group: str | None, tags: Sequence[str]) -> dict[str, Any]:
    """Name, group, tags and configuration of a job's run, as arguments of ``wandb.init``."""
    experiment = job.choices.get("experiment")
    ablation = job.sweep_dir.name if job.sweep_dir else None
    row = [o for o in job.swept_overrides if not o.startswith("seed=")]
    choices = [str(job.choices[key]) for key in _TAG_CHOICES if job.choices.get(key) is not None]
    return {
        "dir": str(job.run_dir),
        "name": ",".join(job.swept_overrides) or f"{experiment or job.command} {job.run_dir.name}",
        "group": group or ablation,
        "job_type": job.command,
        "tags": list(dict.fromkeys(tag[:_MAX_TAG_LENGTH] for tag in (*choices, *tags))),
        "config": {**job.config, "row": ",".join(row) or experiment, "ablation": ablation},
    }


def _read_done_time(run_dir: Path) -> int | None:
    """When the run was last declared finished, in nanoseconds; None if it was not."""
    done = run_dir / "DONE"
    return done.stat().st_mtime_ns if done.is_file() else None


def _import_wandb() -> Any:
    try:
        import wandb
    except ModuleNotFoundError:
        raise RefineError(
            "logger=wandb needs the wandb package: pip install 'refine-panoptic[wandb]'"
        ) from None
    return wandb
