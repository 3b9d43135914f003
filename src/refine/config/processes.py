"""The processes that make one run: torchrun's, those of Slurm's srun, or Lightning's children."""

import os

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


def is_first_process() -> bool:
    """Whether this is the process that speaks and writes for all of its run, or the only one."""
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)


def are_started_together() -> bool:
    """Whether torchrun or srun has started several processes with one command line."""
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE") != "1"
    return by_torchrun or os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1"
