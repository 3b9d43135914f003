"""From overrides to typed settings: what ``python -m refine.NAME ...`` would use."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from refine.config.job import without_hydra
from refine.config.locate import VERSION_BASE, conf_dir
from refine.config.messages import ConfigError, explain, explain_groups
from refine.config.path_arguments import quote_paths
from refine.config.plugins import import_plugins
from refine.config.settings import COMMANDS, CheckpointSettings, Settings, TrainSettings
from refine.errors import RefineError, first_line


@cache
def register_schemas() -> None:
    """Make ``schema`` a choice of each typed group; its YAML files start from it."""
    store = ConfigStore.instance()
    for section in fields(TrainSettings):
        if isinstance(section.type, type) and section.type.__name__.endswith("Options"):
            store.store(name="schema", group=section.name, node=section.type, provider="refine")


def compose(command: str, overrides: Sequence[str] = ()) -> Any:
    """The settings of a command, :class:`~refine.config.settings.TrainSettings` for ``train``, ...

    Args:
        command: A name in :data:`~refine.config.settings.COMMANDS`: ``train``, ``evaluate``, ...
        overrides: Overrides as on the command line, for example ``["data=toy", "seed=1"]``.

    Raises:
        RefineError: An unknown key or choice, a wrong type or range, or a value that is missing.
    """
    register_schemas()
    overrides = quote_paths(overrides)
    with clear_errors(command, overrides):
        config = _compose(command, overrides)
        with standing_in(config):
            return read_settings(config, command)


def read_settings(config: DictConfig, command: str) -> Settings:
    """The settings of a composed configuration, whose ``${hydra:...}`` can be resolved.

    A ``RefineError`` if a value is missing or out of range, a ``ConfigError`` if of another type.
    """
    task = without_hydra(config)
    missing = sorted(OmegaConf.missing_keys(task))
    if missing:
        raise RefineError(f"{missing[0]}: a value is needed; give {missing[0]}=VALUE")
    plain: Any = OmegaConf.to_container(task, resolve=True)
    import_plugins(plain.get("plugins", ()))
    try:
        settings = OmegaConf.to_object(
            OmegaConf.merge(OmegaConf.structured(COMMANDS[command]), plain)
        )
    except ConfigError:  # some are ValueErrors
        raise
    except ValueError as error:
        raise RefineError(" ".join(first_line(error).split())) from None
    parsed = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    if isinstance(settings, CheckpointSettings):
        settings.named = [o.key_or_group for o in parsed]
    elif isinstance(settings, TrainSettings):
        settings.given = [f"{o.key_or_group}={o.value()}" for o in parsed]
    assert isinstance(settings, Settings)
    return settings


def read_job(config: DictConfig, number: int) -> tuple[Settings | None, Path]:
    """The settings of a multirun's job before it starts, and its folder.

    The settings are None if they are not valid: the job itself says why, and the others still run.
    """
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.job.num = number
    with standing_in(config, is_sweep=True) as folder:
        try:
            return read_settings(config, str(config.hydra.job.config_name)), folder
        except (RefineError, *ConfigError):
            return None, folder


@contextmanager
def standing_in(config: DictConfig, *, is_sweep: bool = False) -> Iterator[Path]:
    """Resolve ``${hydra:...}`` as in a job of this configuration, which Hydra has not started.

    Provides the folder of the job.
    """
    state = HydraConfig.instance()
    before = state.cfg
    state.set_config(config)
    try:
        job: Any = HydraConfig.get()
        run_dir = Path(job.sweep.dir, job.sweep.subdir) if is_sweep else Path(job.run.dir)
        with read_write(job):
            job.runtime.output_dir = str(run_dir.absolute())
        yield run_dir.absolute()
    finally:
        state.cfg = before


@contextmanager
def clear_errors(command: str, overrides: Sequence[str]) -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise on a command's overrides into a clear RefineError."""
    try:
        yield
    except ConfigError as error:
        raise RefineError(explain(error, known=_known_settings(command, overrides))) from error
    except (TypeError, ValueError) as error:
        reason = explain_groups(overrides)
        if reason is None:
            raise
        raise RefineError(reason) from error
    except AssertionError as error:
        if "Unexpected type for root" not in str(error):
            raise
        raise RefineError(
            "a setting lies below one that is null (like data.toy.* without data=toy): choose the "
            "group that has it first"
        ) from error


def _known_settings(command: str, overrides: Sequence[str]) -> Any:
    """A command's configuration in plain containers, with the groups that are chosen if it can."""
    groups = [o for o in overrides if (conf_dir() / o.partition("=")[0]).is_dir()]
    try:
        config = _compose(command, groups)
    except ConfigError:
        config = _compose(command, ())
    return OmegaConf.to_container(without_hydra(config), resolve=False)


def _compose(command: str, overrides: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base=VERSION_BASE, config_dir=str(conf_dir())):
        return hydra.compose(command, list(overrides), return_hydra_config=True)
