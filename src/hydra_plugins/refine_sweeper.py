"""Rows of a table, job folders that tell all jobs apart, and one computation for all jobs.

Hydra accepts sweepers (``hydra/sweeper: refine``) from the ``hydra_plugins`` namespace only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from hydra.utils import get_method

from refine.config.job_names import name_jobs


class RefineSweeper(BasicSweeper):
    """Hydra's basic sweeper, which knows all jobs and their folders before the first one starts.

    Args:
        max_batch_size: Number of jobs that are launched together; None for all.
        params: Swept values by key, in Hydra's grammar.
        rows: Overrides by name of the row. Each row is a job, or as many as other keys are swept.
        job: Name of a job, which is an override of each; see ``conf/hydra/sweeper/refine.yaml``.
        prepare: Dotted name of a function for jobs that run one by one in this process. It gets the
            settings of all, None where they are not valid, and returns one result for each; a job
            finds its own in ``Job.prepared``.
    """

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, str] | None,
        rows: Mapping[str, Mapping[str, Any] | None] | None,
        job: str,
        prepare: str | None,
    ) -> None:
        super().__init__(max_batch_size, params)
        self.rows, self.job, self.prepare = rows or {"": {}}, job, prepare

    def split_arguments(  # type: ignore[override] # static in Hydra
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """The overrides of every job, in batches; a ``RefineError`` if two share a folder."""
        context: Any = self.hydra_context
        load = context.config_loader.load_sweep_config
        (jobs,) = BasicSweeper.split_arguments(overrides, None)
        swept = {o.get_key_element() for o in overrides if o.is_sweep_override()}
        rows = [
            (name, [*job, *(f"{key}={value}" for key, value in (row or {}).items())])
            for name, row in self.rows.items()
            for job in jobs
        ]
        named = name_jobs([(row, o, load(self.config, o)) for row, o in rows], swept=swept)
        self._prepare([settings for _, settings in named])
        pairs = zip(rows, named, strict=True)
        final = [[*given, f"hydra.sweeper.job='{name}'"] for (_, given), (name, _) in pairs]
        return list(self.split_overrides_to_chunks(final, max_batch_size))

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Nothing: the jobs were composed to name them."""

    def _prepare(self, settings: Sequence[Any]) -> None:
        launcher: Any = self.launcher
        if self.prepare is not None and isinstance(launcher, BasicLauncher):
            results, task = iter(get_method(self.prepare)(settings)), launcher.task_function
            launcher.task_function = lambda config: task(config, next(results))
