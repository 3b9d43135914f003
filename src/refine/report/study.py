"""A study: experiments times seeds, trained as processes of their own, resumable.

Each run has its folder. A finished one is left alone, an interrupted one goes on from its last
checkpoint, and one of another configuration is refused: nothing is overwritten.
"""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from omegaconf import OmegaConf

from refine.atomic import write_text
from refine.errors import RefineError

_log = logging.getLogger(__name__)

LOG_NAME = "train.log"
"""What a run printed, of all its attempts."""

_ATTEMPTS_NAME = (
    "attempts.json"  # seconds of each attempt; null while it runs, and if it was killed
)
_PLACE_KEYS = ("run_dir", "ckpt_path")  # where a run lies and goes on, not what it computes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One run of a study.

    Attributes:
        experiment: Its name in ``conf/experiment/``.
        seed: Of the training.
        run_dir: Absolute folder of the run.
        overrides: Of ``python -m refine.train``, without the place.
        config: The configuration they compose to in ``run_dir``; plain containers.
    """

    experiment: str
    seed: int
    run_dir: Path
    overrides: tuple[str, ...]
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.experiment} seed {self.seed}"

    @property
    def is_done(self) -> bool:
        """Whether the run has finished."""
        return (self.run_dir / "DONE").is_file()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: The job.
        error: Why it did not finish, in one line; None if it did, now or earlier.
    """

    job: Job
    error: str | None


class Runner(Protocol):
    """Runs jobs; called from several threads."""

    def run(self, job: Job, checkpoint: Path | None) -> int:
        """Train, from a checkpoint if there is one; return the exit code."""

    def stop(self) -> None:
        """End all running jobs soon, so that they can go on later; start no other."""


def build_jobs(
    experiments: Sequence[str],
    seeds: Sequence[int],
    *,
    out: Path,
    overrides: Sequence[str],
    compose: Callable[[Sequence[str]], Mapping[str, Any]],
) -> list[Job]:
    """The jobs of a study, all experiments of a seed before the next seed.

    Args:
        experiments: Names in ``conf/experiment/``.
        seeds: Of the trainings.
        out: Folder of the study; a run lies in ``out/EXPERIMENT/seedSEED``.
        overrides: Further overrides, for every run.
        compose: Overrides to resolved plain containers.

    Raises:
        RefineError: An override or experiment that does not compose.
    """
    jobs = []
    for seed in dict.fromkeys(seeds):
        for experiment in dict.fromkeys(experiments):
            own = (f"experiment={experiment}", f"seed={seed}", *overrides)
            run_dir = (out / experiment / f"seed{seed}").absolute()
            config = compose((*own, f"run_dir={quote(run_dir)}"))
            jobs.append(
                Job(
                    experiment=experiment,
                    seed=seed,
                    run_dir=run_dir,
                    overrides=own,
                    config=config,
                )
            )
    return jobs


def quote(value: Path) -> str:
    """A path as the value of a Hydra override, whatever characters it has."""
    return "'" + str(value).replace("'", r"\'") + "'"


def run_study(jobs: Sequence[Job], runner: Runner, *, num_parallel: int = 1) -> list[Outcome]:
    """Bring every job to its end; one that fails does not stop the others.

    Interrupted, it stops the running ones, and a later call goes on.

    Args:
        jobs: In the order in which they start.
        runner: Trains.
        num_parallel: Jobs at a time.

    Returns:
        Outcomes in the order of the jobs.

    Raises:
        RefineError: A folder holds a run of another configuration; nothing has been started.
    """
    for job in jobs:
        _check_configuration(job)
    with ThreadPoolExecutor(num_parallel) as pool:
        futures = [pool.submit(_bring_to_end, job, runner) for job in jobs]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            runner.stop()
            raise


def read_seconds(job: Job) -> float | None:
    """Wall time of a job over all its attempts; None if one of them was not measured."""
    attempts = _read_attempts(job)
    seconds = [s for s in attempts if s is not None]
    return sum(seconds) if seconds and len(seconds) == len(attempts) else None


class TrainingProcesses:
    """Trains each job by ``python -m refine.train``, its output in ``train.log``.

    Args:
        num_threads: Of each process.
    """

    def __init__(self, num_threads: int) -> None:
        self._environment = os.environ | {"OMP_NUM_THREADS": str(num_threads)}
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_stopped = False
        self._lock = Lock()

    def run(self, job: Job, checkpoint: Path | None) -> int:
        """Train; the exit code."""
        job.run_dir.mkdir(parents=True, exist_ok=True)
        with (job.run_dir / LOG_NAME).open("ab") as log:
            with self._lock:
                if self._is_stopped:
                    return 1
                # a session of its own: Ctrl-C reaches it through stop() alone, once
                process = subprocess.Popen(
                    to_command(job, checkpoint),
                    env=self._environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                self._running.add(process)
            code = process.wait()
        with self._lock:
            self._running.discard(process)
        return code

    def stop(self) -> None:
        """Ask every process to end; Lightning saves a checkpoint first."""
        with self._lock:
            self._is_stopped = True
            for process in self._running:
                process.terminate()


def to_command(job: Job, checkpoint: Path | None) -> list[str]:
    """The command line of a job, resuming a checkpoint if there is one."""
    command = [sys.executable, "-m", "refine.train", *job.overrides]
    command.append(f"hydra.run.dir={quote(job.run_dir)}")
    return command if checkpoint is None else [*command, f"ckpt_path={quote(checkpoint)}"]


def _bring_to_end(job: Job, runner: Runner) -> Outcome:
    if job.is_done:
        _log.info("%s: finished already", job.name)
        return Outcome(job=job, error=None)
    checkpoint = job.run_dir / "checkpoints" / "last.ckpt"
    is_resumed = checkpoint.is_file()
    _log.info("%s: %s", job.name, "goes on" if is_resumed else "starts")
    code = _run_timed(job, lambda: runner.run(job, checkpoint if is_resumed else None))
    error = None if code == 0 and job.is_done else _explain(job, code)
    _log.info("%s: %s", job.name, "finished" if error is None else f"did not finish: {error}")
    return Outcome(job=job, error=error)


def _run_timed(job: Job, run: Callable[[], int]) -> int:
    earlier = _read_attempts(job)
    start = time.monotonic()
    write_text(job.run_dir / _ATTEMPTS_NAME, json.dumps([*earlier, None]))
    code = run()
    seconds = round(time.monotonic() - start, 3)
    write_text(job.run_dir / _ATTEMPTS_NAME, json.dumps([*earlier, seconds]))
    return code


def _read_attempts(job: Job) -> list[float | None]:
    path = job.run_dir / _ATTEMPTS_NAME
    return list(json.loads(path.read_text())) if path.is_file() else []


def _explain(job: Job, code: int) -> str:
    log = job.run_dir / LOG_NAME
    lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
    return f"{last} (exit code {code}; {log})"


def _check_configuration(job: Job) -> None:
    """Refuse a folder in which something else was trained."""
    path = job.run_dir / "config.yaml"
    if not path.is_file():
        if job.is_done or (job.run_dir / "checkpoints").exists():
            raise RefineError(
                f"{job.run_dir}: a run without config.yaml; remove it or change --out"
            )
        return
    recorded = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(recorded, dict)
    there, here = _without_place(recorded), _without_place(job.config)
    different = sorted(k for k in there | here if there.get(k, ...) != here.get(k, ...))
    if different:
        key = different[0]
        raise RefineError(
            f"{job.run_dir}: holds a run of another configuration ({key} is "
            f"{there.get(key, 'absent')} there and {here.get(key, 'absent')} here); "
            "remove it or name another --out"
        )


def flatten(node: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested containers; lists and empty containers are values."""

    def walk(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        if isinstance(node, Mapping) and node:
            for key, value in node.items():
                yield from walk(value, f"{prefix}.{key}" if prefix else str(key))
        else:
            yield prefix, node

    return walk(node, "")


def _without_place(config: Mapping[Any, Any]) -> dict[str, Any]:
    """The configuration by dotted key, whatever the folder of the run is."""
    place = str(config.get("run_dir"))
    content = {key: value for key, value in config.items() if key not in _PLACE_KEYS}
    return {
        key: value.replace(place, "RUN_DIR") if isinstance(value, str) else value
        for key, value in flatten(content)
    }
