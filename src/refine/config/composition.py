"""From overrides to typed settings: what ``python -m refine.NAME ...`` would use."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, read_write

from refine.config.job import without_hydra
from refine.config.locate import VERSION_BASE, conf_dir
from refine.config.messages import ConfigError, explain
from refine.config.settings import COMMANDS, CheckpointSettings, Settings, TrainSettings
from refine.errors import RefineError


def register_schemas() -> None:
    """Make ``schema`` a choice of each typed group; its YAML files start from it."""
    store = ConfigStore.instance()
    for section in fields(TrainSettings):
        if isinstance(section.type, type) and section.type.__name__.endswith("Options"):
            store.store(name="schema", group=section.name, node=section.type, provider="refine")


def compose(command: str, overrides: Sequence[str] = ()) -> Any:
    """Compose the settings of a command.

    Args:
        command: ``train``, ``evaluate``, ``predict``, ``score`` or ``convert``.
        overrides: Overrides as on the command line, for example ``["data=toy", "seed=1"]``.

    Returns:
        The settings: :class:`~refine.config.settings.TrainSettings` for ``train``, and so on.

    Raises:
        RefineError: An unknown key or choice, a wrong type or range, or a value that is missing.
    """
    register_schemas()
    try:
        config = _compose(command, overrides)
        with standing_in(config):
            return read_settings(config, command)
    except ConfigError as error:
        raise RefineError(explain_error(error, command)) from None
    except AssertionError as error:
        raise explain_null_section(error) from None


def read_settings(config: DictConfig, command: str) -> Settings:
    """The settings of a composed configuration.

    Args:
        config: Composed configuration; ``${hydra:...}`` can be resolved.
        command: Name of the command.

    Raises:
        RefineError: An unknown key or choice, a wrong type or range, or a value that is missing.
    """
    task = without_hydra(config)
    missing = sorted(OmegaConf.missing_keys(task))
    if missing:
        raise RefineError(f"{missing[0]}: a value is needed; give {missing[0]}=VALUE")
    plain = OmegaConf.to_container(task, resolve=True)
    try:
        settings = OmegaConf.to_object(
            OmegaConf.merge(OmegaConf.structured(COMMANDS[command]), plain)
        )
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise RefineError(" ".join(str(error).splitlines()[0].split())) from None
    if isinstance(settings, CheckpointSettings):
        parsed = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
        settings.named = [o.key_or_group for o in parsed]
    assert isinstance(settings, Settings)
    return settings


@contextmanager
def standing_in(config: DictConfig, *, is_sweep: bool = False) -> Iterator[None]:
    """Resolve ``${hydra:...}`` as in a job of this configuration, which Hydra has not started.

    Args:
        config: Composed configuration with its ``hydra`` section.
        is_sweep: Whether the job is one of a multirun.
    """
    state = HydraConfig.instance()
    before = state.cfg
    state.set_config(config)
    try:
        job: Any = HydraConfig.get()
        run_dir = Path(job.sweep.dir, job.sweep.subdir) if is_sweep else Path(job.run.dir)
        with read_write(job):
            job.runtime.output_dir = str(run_dir.absolute())
        yield
    finally:
        state.cfg = before


def explain_null_section(error: AssertionError) -> Exception:
    """What a setting below a section that is null raises in OmegaConf, as bad input."""
    if "Unexpected type for root" not in str(error):
        return error
    return RefineError(
        "a setting lies below one that is null (like data.toy.* without data=toy): choose the "
        "group that has it first"
    )


def explain_error(error: Exception, command: str) -> str:
    """One line for what Hydra raised on a command's overrides."""
    known: Any = OmegaConf.to_container(without_hydra(_compose(command, ())), resolve=False)
    return explain(error, conf_dir=conf_dir(), known=known)


def _compose(command: str, overrides: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base=VERSION_BASE, config_dir=str(conf_dir())):
        return hydra.compose(command, list(overrides), return_hydra_config=True)
