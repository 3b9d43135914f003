"""Runs a command: Hydra around it, one clear line when the input is bad."""

import contextlib
import errno
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

import refine
from refine.config.composition import clear_errors, read_settings, register_schemas
from refine.config.interruption import take_signal, watch_signals
from refine.config.job import describe_job
from refine.config.locate import VERSION_BASE, conf_dir
from refine.config.path_arguments import quote_paths
from refine.config.processes import are_started_together, is_first_process, take_gpu
from refine.errors import RefineError, first_line, print_what_can_be

_WRITE_ERRORS = {
    getattr(errno, name, None)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ESTALE")
}
_LOST_WORKER = re.compile(r"DataLoader worker \(pid\S* [\d, ]+\) (exited unexpectedly|is killed.*)")
_NO_MEMORY = re.compile(  # torch's two, NumPy's, Python's and that of a worker process
    r"(\w+ (backend )?)?out of memory|can't allocate memory.*? bytes|Unable to allocate \S+ \S+"
    r"|\w*MemoryError"
)


def run_command(name: str, task: Callable[..., Any]) -> None:
    """Compose the settings from the command line and run the task.

    Bad input (:class:`RefineError`, an unknown key or choice, a value of the wrong type) and files
    that cannot be written end with one line on standard error and exit code 1, Ctrl-C and SIGTERM
    with 130 and 143. Everything else is a bug and keeps its traceback; ``HYDRA_FULL_ERROR=1`` shows
    the traceback of bad input too.

    Args:
        name: Name of the primary configuration in ``conf/``.
        task: Called once for each job with its :class:`~refine.config.settings.Settings` and its
            :class:`~refine.config.job.Job`. A sweeper that searches compares what it returns.
    """
    if _says_version():
        return
    register_schemas()
    full_error = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra passes exceptions on instead of printing them
    given, sys.argv = sys.argv, [sys.argv[0], *quote_paths(sys.argv[1:])]
    folders: list[Path] = []

    def run_job(config: DictConfig, prepared: Any = None) -> Any:
        hydra_config = HydraConfig.get()
        run_dir = Path(hydra_config.runtime.output_dir)
        is_multirun = hydra_config.mode == RunMode.MULTIRUN
        if not is_multirun:
            folders.append(run_dir)
        try:
            # also in the processes of joblib's jobs
            with watch_signals(), clear_errors(name, ()), _clear_machine_errors(run_dir):
                _require_folder(hydra_config)
                if "joblib" in str(hydra_config.launcher._target_):
                    take_gpu()
                job = describe_job(config, hydra_config, prepared=prepared)
                return task(read_settings(config, name), job)
        except RefineError as error:
            if run_dir != Path.cwd():
                with contextlib.suppress(OSError):  # something was written into it
                    run_dir.rmdir()
            # the other jobs of a sweep still run; Hydra raises this one's error at the end
            if full_error or is_multirun:
                raise
            _exit(error)

    main = hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=name)
    with _end_in_one_line(lambda: _describe_continuation(name, given[1:], folders), full_error):
        try:
            errors = clear_errors(name, sys.argv[1:])
            with watch_signals(), errors, _clear_machine_errors(Path.cwd()):
                main(run_job)()
        finally:
            sys.argv = given


def _says_version() -> bool:
    is_asked = sys.argv[1:] == ["--version"]
    if is_asked:
        sys.stdout.write(f"refine {refine.__version__}\n")
    return is_asked


def _require_folder(hydra_config: HydraConf) -> None:
    """Refuse that several processes of one run each choose a folder by the clock."""
    is_clocked = hydra_config.mode != RunMode.MULTIRUN and hydra_config.run.dir != "."
    given = hydra_config.overrides.hydra
    if is_clocked and are_started_together() and not any("hydra.run.dir=" in o for o in given):
        raise RefineError(
            "hydra.run.dir: a value is needed where torchrun or srun start several processes, each "
            "of which would choose a folder of its own; give hydra.run.dir=FOLDER"
        )


@contextlib.contextmanager
def _end_in_one_line(continuation: Callable[[], str], full_error: bool) -> Iterator[None]:
    """End the process on bad input or a signal; ``continuation`` is what to run afterwards."""
    print_what_can_be()
    try:
        yield
    except BaseException as end:
        # Lightning exits on SIGTERM, and joblib says that its processes have ended
        number = take_signal() or (signal.SIGINT if isinstance(end, KeyboardInterrupt) else None)
        if full_error or (number is None and not isinstance(end, RefineError)):
            raise
        if number is None:
            _exit(end)
        if is_first_process():
            sys.stderr.write(f"interrupted{continuation()}\n")
        sys.exit(128 + number)  # as shells do


def _describe_continuation(name: str, arguments: list[str], folders: list[Path]) -> str:
    """What to run to go on, if the command can."""
    keys = {"train": "hydra.run.dir", "predict": "out"}
    if name not in keys:
        return ""
    is_given = any(a.startswith(f"{keys[name]}=") for a in arguments)
    folder = [f"{keys[name]}={folder}" for folder in folders if folder.exists() and not is_given]
    return f"; to go on: python -m refine.{name} {shlex.join([*arguments, *folder])}"


@contextlib.contextmanager
def _clear_machine_errors(folder: Path) -> Iterator[None]:
    """Turn what the machine lacks (disk, memory, a process that was killed) into a RefineError."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        if line := _explain_machine(error, folder):
            raise RefineError(line) from error
        raise


def _explain_machine(error: Exception, folder: Path) -> str | None:
    """What is missing and what to do about it; None for other errors."""
    reason = first_line(error)
    if isinstance(error, OSError) and error.errno in _WRITE_ERRORS:
        return (
            f"{error.filename or folder}: {reason}; make room, or choose another folder "
            "with hydra.run.dir=FOLDER (of a multirun: hydra.sweep.dir=FOLDER)"
        )
    if lack := _NO_MEMORY.search(reason):
        return (
            f"memory: {lack[0][:90]}; lower data.batch_size (of predict "
            "batch_size) or data.image.train_short_sides_px, or train with trainer=gpu (half "
            "precision) and model.backbone.activation_checkpointing=true"
        )
    if lost := _LOST_WORKER.search(reason):  # raised wherever the main process is
        return (
            f"num_workers: a process that loads data {lost[1].strip(' .')[:60]}; most often memory "
            "is short (in a container also /dev/shm): give fewer (data.num_workers=N, of fuse "
            "num_workers=N) or smaller batches"
        )
    return None


def _exit(error: BaseException) -> NoReturn:
    sys.stderr.write(f"error: {error}\n")
    sys.exit(1)
