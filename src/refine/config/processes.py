"""The processes that make one run: torchrun's, those of Slurm's srun, or Lightning's children."""

import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


def is_first_process() -> bool:
    """Whether this is the process that speaks and writes for all of its run, or the only one."""
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)


def are_started_together() -> bool:
    """Whether torchrun or srun has started several processes with one command line."""
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE") != "1"
    return by_torchrun or os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1"


def is_no_task_of_slurm(devices: Any) -> bool:
    """Whether this is a process in a Slurm job that ``srun`` has not started as one of its tasks.

    So it is in a shell within an allocation, and in a batch script without ``srun``: for several
    ``devices`` (as Lightning takes them) it has to start the other processes itself. One process
    that is all of a job is its task.
    """
    tasks = os.environ.get("SLURM_NTASKS")
    if tasks is None or "TORCHELASTIC_RUN_ID" in os.environ or are_started_together():
        return False
    return tasks != "1" or devices != 1


_held: list[int] = []  # file descriptors, as long as the process lives


def take_gpu() -> None:
    """Give this process the GPU that fewest others have taken, by ``CUDA_VISIBLE_DEVICES``.

    Processes that run one job of a multirun after another keep theirs.
    """
    import fcntl

    import torch  # slow to import

    if _held or (number := torch.cuda.device_count()) < 2:
        return
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = given.split(",")[:number] if given else [f"{k}" for k in range(number)]
    folder = Path(tempfile.gettempdir(), f"refine-gpus-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    for turn, gpu in ((turn, gpu) for turn in itertools.count() for gpu in gpus):
        lock = os.open(folder / f"{gpu}.{turn}", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        _held.append(lock)
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        return
