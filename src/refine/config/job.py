"""The job that a command runs, described without Hydra's own types."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of a command: alone, or one of a multirun's jobs.

    Attributes:
        command: Name of the command, such as ``train``.
        run_dir: Folder of the run.
        sweep_dir: Folder of the multirun; None outside of one.
        overrides: Overrides of this job, as on the command line.
        swept: Keys and groups whose values differ between the jobs of the multirun.
        choices: Choice of every configuration group; None where nothing is chosen.
        config: Resolved configuration, plain containers.
        prepared: What the launcher computed for this job together with others; None if nothing.
    """

    command: str
    run_dir: Path
    sweep_dir: Path | None = None
    overrides: tuple[str, ...] = ()
    swept: frozenset[str] = frozenset()
    choices: Mapping[str, str | None] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    prepared: Any = None

    @property
    def swept_overrides(self) -> tuple[str, ...]:
        """The overrides that tell this job from the others of its multirun."""
        return tuple(o for o in self.overrides if o.split("=")[0] in self.swept)


class JobCallback(Callback):
    """Base of a callback in ``hydra.callbacks`` that sees :class:`Job` instead of a DictConfig."""

    def __init__(self) -> None:
        self._swept: frozenset[str] = frozenset()

    def start(self, job: Job) -> None:
        """Called before a job runs."""

    def end(self, job: Job, *, failed: bool) -> None:
        """Called after a job has run, also after an error."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note which settings differ between the jobs."""
        params = config.hydra.sweeper.get("params") or {}
        overrides = [*config.hydra.overrides.task, *(f"{k}={v}" for k, v in params.items())]
        parsed = OverridesParser.create().parse_overrides(overrides)
        rows = config.hydra.sweeper.get("rows") or {}
        self._swept = frozenset(o.key_or_group for o in parsed if o.is_sweep_override())
        self._swept |= {key for row in rows.values() for key in row or {}}

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Hydra's hook of :meth:`start`."""
        self.start(describe_job(config, config.hydra, swept=self._swept))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Hydra's hook of :meth:`end`."""
        failed = job_return.status != JobStatus.COMPLETED
        self.end(describe_job(config, config.hydra, swept=self._swept), failed=failed)


def describe_job(
    config: DictConfig,
    settings: HydraConf,
    *,
    swept: frozenset[str] = frozenset(),
    prepared: Any = None,
) -> Job:
    """The job of a composed configuration, which Hydra has started with these settings."""
    plain: Any = OmegaConf.to_container(without_hydra(config), resolve=True)
    is_multirun = settings.mode == RunMode.MULTIRUN
    return Job(
        command=str(settings.job.name),
        run_dir=Path(plain.get("run_dir", settings.runtime.output_dir)),
        sweep_dir=Path(str(settings.sweep.dir)) if is_multirun else None,
        overrides=tuple(settings.overrides.task),
        swept=swept,
        choices=dict(settings.runtime.choices),
        config=plain,
        prepared=prepared,
    )


def without_hydra(config: DictConfig) -> DictConfig:
    """A composed configuration without Hydra's own section."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
