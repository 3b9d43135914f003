"""Lets a command see all jobs of a sweep before the first one runs (``hydra/launcher: refine``).

Hydra accepts launchers from the ``hydra_plugins`` namespace only.
"""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn
from hydra.utils import get_method
from omegaconf import DictConfig, open_dict

from refine.config.composition import read_settings, standing_in
from refine.config.settings import Settings
from refine.errors import RefineError


class RefineLauncher(BasicLauncher):
    """Hydra's basic launcher, with a shared computation before the first job.

    Args:
        prepare: Dotted name of a function. It gets the settings of all jobs, None where they are
            not valid, and returns one result for each; a job finds its own in ``Job.prepared``.
    """

    def __init__(self, prepare: str) -> None:
        super().__init__()
        self.prepare = prepare

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Prepare all jobs together, then run one after the other in this process."""
        assert self.hydra_context is not None
        load = self.hydra_context.config_loader.load_sweep_config
        settings = [
            _read(load(self.config, list(overrides)), number)
            for number, overrides in enumerate(job_overrides, start=initial_job_idx)
        ]
        results = iter(get_method(self.prepare)(settings))
        task: Any = self.task_function
        self.task_function = lambda config: task(config, next(results))
        try:
            return super().launch(job_overrides, initial_job_idx)
        finally:
            self.task_function = task  # a sweeper may launch several batches


def _read(config: DictConfig, number: int) -> Settings | None:
    with open_dict(config.hydra.job):
        config.hydra.job.num = number
    try:
        with standing_in(config, is_sweep=True):
            return read_settings(config, str(config.hydra.job.config_name))
    except RefineError:
        return None  # the job itself reports what is wrong
