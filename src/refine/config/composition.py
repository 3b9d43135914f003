"""The configuration of a command from Python: what ``python -m refine.NAME ...`` would use."""

from collections.abc import Sequence
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from refine.config.locate import VERSION_BASE, conf_dir
from refine.config.messages import ConfigError, explain
from refine.config.schema import register_schemas
from refine.errors import RefineError


def compose(command: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the configuration of a command.

    Args:
        command: ``train``, ``evaluate``, ``predict`` or ``score``.
        overrides: As on the command line, for example ``["data=toy", "data.batch_size=2"]``.

    Returns:
        The configuration; interpolations are resolved when read.

    Raises:
        RefineError: An unknown key or choice, or a value of the wrong type.
    """
    register_schemas()
    try:
        return _compose(command, overrides)
    except ConfigError as error:
        raise RefineError(explain_error(error, command)) from None
    except AssertionError as error:
        raise explain_null_section(error) from None


def explain_null_section(error: AssertionError) -> Exception:
    """What a setting below a section that is null raises in OmegaConf, as bad input."""
    if "Unexpected type for root" not in str(error):
        return error
    return RefineError(
        "a setting lies below one that is null (data.toy.* without data=toy, say): choose the "
        "group that has it first"
    )


def explain_error(error: Exception, command: str) -> str:
    """One line for what Hydra raised on a command's overrides."""
    known: Any = OmegaConf.to_container(_compose(command, ()), resolve=False)
    return explain(error, conf_dir=conf_dir(), known=known)


def _compose(command: str, overrides: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base=VERSION_BASE, config_dir=str(conf_dir())):
        return hydra.compose(command, list(overrides))
