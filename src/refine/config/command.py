"""Runs a command: Hydra around it, one clear line when the input is bad."""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from refine.config.composition import explain_error, explain_null_section
from refine.config.locate import VERSION_BASE, conf_dir
from refine.config.messages import ConfigError
from refine.config.schema import register_schemas
from refine.errors import RefineError

_BAD_INPUT = (RefineError, *ConfigError)
_INTERRUPTED = 130  # as a shell has it: 128 + SIGINT


def run_command(
    name: str,
    task: Callable[[DictConfig], Any],
    *,
    prepare: Callable[[Sequence[DictConfig]], None] | None = None,
) -> None:
    """Compose the configuration from the command line and run the task.

    Bad input (:class:`RefineError`, an unknown key or choice, a value of the wrong type) ends
    with one line on standard error and exit code 1. Everything else is a bug and keeps its
    traceback; ``HYDRA_FULL_ERROR=1`` shows the traceback of bad input too.

    Args:
        name: Of the primary configuration in ``conf/``.
        task: Called with the composed configuration, once a job.
        prepare: Called before the first job of a sweep with the configurations of all.
    """
    register_schemas()
    full_error = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands exceptions on instead of printing them

    def job(cfg: DictConfig) -> Any:
        settings = HydraConfig.get()
        try:
            return task(cfg)
        except _BAD_INPUT as error:
            _remove_if_empty(Path(settings.runtime.output_dir))
            # a sweep goes on with its other jobs; Hydra raises this one's error at the end
            if full_error or settings.mode == RunMode.MULTIRUN:
                raise
            _exit(error, name)

    job.prepare = prepare  # type: ignore[attr-defined] # refine_launcher looks for it
    main = hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=name)(job)
    try:
        main()
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
    """Take back the directory that Hydra made, if nothing was written into it."""
    if run_dir != Path.cwd():
        with contextlib.suppress(OSError):
            run_dir.rmdir()


def _exit(error: Exception, command: str) -> NoReturn:
    message = str(error) if isinstance(error, RefineError) else explain_error(error, command)
    sys.stderr.write(f"error: {message}\n")
    sys.exit(1)
