"""Runs a command: Hydra around it, one clear line when the input is bad."""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from refine.config.composition import (
    explain_error,
    explain_null_section,
    read_settings,
    register_schemas,
)
from refine.config.job import describe_job
from refine.config.locate import VERSION_BASE, conf_dir
from refine.config.messages import ConfigError
from refine.errors import RefineError

_BAD_INPUT = (RefineError, *ConfigError)
_INTERRUPTED = 130  # exit code of a shell: 128 + SIGINT


def run_command(name: str, task: Callable[..., Any]) -> None:
    """Compose the settings from the command line and run the task.

    Bad input (:class:`RefineError`, an unknown key or choice, a value of the wrong type) ends
    with one line on standard error and exit code 1. Everything else is a bug and keeps its
    traceback; ``HYDRA_FULL_ERROR=1`` shows the traceback of bad input too.

    Args:
        name: Name of the primary configuration in ``conf/``.
        task: Called once for each job with its :class:`~refine.config.settings.Settings` and its
            :class:`~refine.config.job.Job`.
    """
    register_schemas()
    full_error = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra passes exceptions on instead of printing them

    def run_job(config: DictConfig, prepared: Any = None) -> Any:
        hydra_config = HydraConfig.get()
        try:
            settings = read_settings(config, name)
            return task(settings, describe_job(config, hydra_config, prepared=prepared))
        except _BAD_INPUT as error:
            _remove_if_empty(Path(hydra_config.runtime.output_dir))
            # the other jobs of a sweep still run; Hydra raises this one's error at the end
            if full_error or hydra_config.mode == RunMode.MULTIRUN:
                raise
            _exit(error, name)

    main = hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=name)
    try:
        main(run_job)()
    except _BAD_INPUT as error:
        if full_error:
            raise
        _exit(error, name)
    except AssertionError as error:
        explained = explain_null_section(error)
        if explained is error or full_error:
            raise
        _exit(explained, name)
    except KeyboardInterrupt:
        if full_error:
            raise
        sys.stderr.write("interrupted\n")
        sys.exit(_INTERRUPTED)


def _remove_if_empty(run_dir: Path) -> None:
    """Remove the directory that Hydra made, if nothing was written into it."""
    if run_dir != Path.cwd():
        with contextlib.suppress(OSError):
            run_dir.rmdir()


def _exit(error: Exception, command: str) -> NoReturn:
    message = str(error) if isinstance(error, RefineError) else explain_error(error, command)
    sys.stderr.write(f"error: {message}\n")
    sys.exit(1)
