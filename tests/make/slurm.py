"""Slurm on this machine: ``sbatch`` runs a job at once, ``srun`` starts its tasks."""

import sys

SBATCH = """
import os, re, subprocess, sys
script = open(sys.argv[1]).read()
tasks = re.search(r"--ntasks-per-node=(\\d+)", script)[1]
slurm = {"JOB_ID": "100", "JOB_NAME": "refine", "NTASKS": tasks, "NTASKS_PER_NODE": tasks}
slurm |= {"NNODES": "1", "JOB_NUM_NODES": "1", "NODELIST": "localhost", "JOB_NODELIST": "localhost"}
env = os.environ | {f"SLURM_{name}": value for name, value in slurm.items()}
with open(os.environ["SLURM_TEST_LOG"], "w") as log:
    subprocess.Popen(["sh", sys.argv[1]], env=env, stdout=log, stderr=log, start_new_session=True)
print("Submitted batch job 100")
"""
SRUN = """
import os, subprocess, sys
words = sys.argv[1:]
while words[0].startswith("-"):
    words = words[2 if words[0] in ("--output", "--error") else 1:]
ranks = range(int(os.environ["SLURM_NTASKS"]))
step = {"SLURM_NODEID": "0", "SLURM_STEP_NUM_TASKS": os.environ["SLURM_NTASKS"]}
env = [os.environ | step | {"SLURM_PROCID": f"{k}", "SLURM_LOCALID": f"{k}"} for k in ranks]
tasks = [subprocess.Popen(words, env=each) for each in env]
sys.exit(max(task.wait() for task in tasks))
"""


def make_slurm(folder):
    """Write ``sbatch``, ``srun`` and ``sacct``, and return what has to be in the environment."""
    folder.mkdir()
    for name, code in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", "")):
        (folder / name).write_text(f"#!{sys.executable}\n{code.lstrip()}")
        (folder / name).chmod(0o755)
    return {"SLURM_TEST_LOG": str(folder / "log")}
