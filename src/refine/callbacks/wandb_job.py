"""Ties a W&B run to a Hydra job: named after it, and finished with it, however it ends."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from refine.callbacks.wandb_run import OFFLINE_RUNS, Job, WandbRun, begin_job, end_job

_TAG_CHOICES = ("experiment", "sweep", "component")


class WandbJob(Callback):
    """Hydra's callback of ``logger=wandb`` and ``upload=wandb``.

    A training logs to its run while it goes. A job that has no training but has left results, as
    those of ``refine.evaluate``, gets a run that holds them. A job that was finished before, or
    fails before anything is logged, gets none.

    Args:
        **settings: Those of :class:`WandbRun` but for ``run_dir``, for runs that hold results only.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self._swept: frozenset[str] = frozenset()
        self._done_before: int | None = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note which settings differ from job to job."""
        params = config.hydra.sweeper.get("params") or {}
        overrides = [*config.hydra.overrides.task, *(f"{k}={v}" for k, v in params.items())]
        parsed = OverridesParser.create().parse_overrides(overrides)
        self._swept = frozenset(o.key_or_group for o in parsed if o.is_sweep_override())

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Name the run that is to come."""
        self._done_before = _stamp(config)
        begin_job(_describe(config, self._swept))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Log the results, and finish the run as the job did."""
        failed = job_return.status != JobStatus.COMPLETED
        try:
            has_results = not failed and _stamp(config) not in (None, self._done_before)
            if has_results:
                WandbRun(config.run_dir, **self.settings).log_results()
        finally:
            end_job(exit_code=int(failed))


def _stamp(config: DictConfig) -> int | None:
    """When the run's folder was last declared finished, in nanoseconds."""
    done = Path(config.run_dir) / "DONE"
    return done.stat().st_mtime_ns if done.is_file() else None


def _describe(config: DictConfig, swept: Collection[str]) -> Job:
    settings = config.hydra
    is_sweep = settings.mode == RunMode.MULTIRUN
    folder, sweep_dir = Path(config.run_dir), Path(settings.sweep.dir)
    choices = settings.runtime.choices
    experiment = choices.get("experiment")
    changed = [o for o in settings.overrides.task if o.split("=")[0] in swept]
    row = [o for o in changed if not o.startswith("seed=")]
    task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    plain: Any = OmegaConf.to_container(task, resolve=True)
    return Job(
        folder=folder,
        pattern=f"{sweep_dir}/*/{OFFLINE_RUNS}" if is_sweep else f"{folder}/{OFFLINE_RUNS}",
        name=",".join(changed) or f"{experiment or settings.job.name} {folder.name}",
        kind=settings.job.name,
        config=plain,
        group=sweep_dir.name if is_sweep else None,
        row=",".join(row) or experiment,
        tags=tuple(str(choices[k]) for k in _TAG_CHOICES if choices.get(k) is not None),
    )
