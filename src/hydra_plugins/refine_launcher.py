"""Lets a command see all jobs of a sweep before the first one runs (``hydra/launcher: refine``).

Hydra accepts launchers from the ``hydra_plugins`` namespace only. This one runs the jobs one after
the other in this process, as Hydra's own does; but if the task has an attribute ``prepare``, it is
called first with the configurations of all jobs, so that what they share is computed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn


@dataclass
class RefineLauncherConf:
    """Schema of ``hydra/launcher: refine``."""

    _target_: str = "hydra_plugins.refine_launcher.RefineLauncher"


ConfigStore.instance().store(
    group="hydra/launcher", name="refine", node=RefineLauncherConf, provider="refine"
)


class RefineLauncher(BasicLauncher):
    """Hydra's basic launcher, with a look ahead."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Prepare all jobs together, then run one after the other."""
        prepare = getattr(self.task_function, "prepare", None)
        if prepare is not None:
            assert self.hydra_context is not None
            loader = self.hydra_context.config_loader
            prepare([loader.load_sweep_config(self.config, list(o)) for o in job_overrides])
        return super().launch(job_overrides, initial_job_idx)
