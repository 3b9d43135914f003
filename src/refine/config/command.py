"""Runs a command: Hydra around it, one clear line when the input is bad."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from refine.config.composition import clear_errors, read_settings, register_schemas
from refine.config.job import describe_job
from refine.config.locate import VERSION_BASE, conf_dir
from refine.errors import RefineError


def run_command(name: str, task: Callable[..., Any]) -> None:
    """Compose the settings from the command line and run the task.

    Bad input (:class:`RefineError`, an unknown key or choice, a value of the wrong type) ends
    with one line on standard error and exit code 1. Everything else is a bug and keeps its
    traceback; ``HYDRA_FULL_ERROR=1`` shows the traceback of bad input too.

    Args:
        name: Name of the primary configuration in ``conf/``.
        task: Called once for each job with its :class:`~refine.config.settings.Settings` and its
            :class:`~refine.config.job.Job`. A sweeper that searches compares what it returns.
    """
    register_schemas()
    full_error = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra passes exceptions on instead of printing them

    def run_job(config: DictConfig, prepared: Any = None) -> Any:
        hydra_config = HydraConfig.get()
        try:
            with clear_errors(name, ()):
                job = describe_job(config, hydra_config, prepared=prepared)
                return task(read_settings(config, name), job)
        except RefineError as error:
            run_dir = Path(hydra_config.runtime.output_dir)
            if run_dir != Path.cwd():
                with contextlib.suppress(OSError):  # something was written into it
                    run_dir.rmdir()
            # the other jobs of a sweep still run; Hydra raises this one's error at the end
            if full_error or hydra_config.mode == RunMode.MULTIRUN:
                raise
            _exit(error)

    main = hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=name)
    try:
        with clear_errors(name, sys.argv[1:]):
            main(run_job)()
    except RefineError as error:
        if full_error:
            raise
        _exit(error)
    except KeyboardInterrupt:
        if full_error:
            raise
        sys.stderr.write("interrupted\n")
        sys.exit(128 + signal.SIGINT)  # as shells do


def _exit(error: RefineError) -> NoReturn:
    sys.stderr.write(f"error: {error}\n")
    sys.exit(1)
