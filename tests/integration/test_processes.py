"""Several processes and machines make one run: as one process would, and they end together."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment

from make.commands import evaluate, run_main, start_process, steps_of
from make.errors import refused
from make.slurm import make_slurm
from refine.config import compose
from refine.config.instantiate import build_trainer, check_trainer
from refine.prediction_cache.cache import PredictionReader
from refine.training.detector_module import DetectorModule

TWO_NODES = [
    "trainer=multi_node", "trainer.accelerator=cpu", "trainer.precision=32-true",
    "trainer.enable_progress_bar=false",
]  # fmt: skip
LIMIT_S = 60


def run_on_two_nodes(command, *arguments, cwd):
    """The output of two groups of processes that torchrun starts, as on two machines.

    Each has one thread: with another number convolutions round sums otherwise.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = ["--master-addr=127.0.0.1", f"--master-port={free.getsockname()[1]}"]
    start = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    nodes = [
        subprocess.Popen(
            [*start, *address, f"--node-rank={rank}", "-m", f"refine.{command}", *arguments],
            cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(cwd)},  # torchrun leaves logs
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [node.communicate(timeout=240)[0] for node in nodes]
    return [node.returncode for node in nodes], outputs


def rows_of(run_dir):
    lines = (run_dir / "per_category.csv").read_text().splitlines()
    return [line.split(",") for line in lines]


def same_rows(one, two):
    """Whether counts are equal, and sums of IoU to 1e-12."""
    place = one[0].index("iou")
    counts = [one[0].index(name) for name in ("category_id", "tp", "fp", "fn")]
    return len(one) == len(two) > 1 and all(
        [a[k] for k in counts] == [b[k] for k in counts]
        and abs(float(a[place]) - float(b[place])) <= 1e-12
        for a, b in zip(one[1:], two[1:], strict=True)
    )


@pytest.mark.ddp
@pytest.mark.slow
def test_two_nodes_count_and_cache_what_one_process_does(best, tmp_path):
    low = "fusion.merge.score_thresh=0.05"
    evaluate(tmp_path / "one", best, low, f"save_predictions={tmp_path / 'one_cache'}")
    codes, outputs = run_on_two_nodes(
        "evaluate", *TWO_NODES, best, low, f"hydra.run.dir={tmp_path / 'two'}",
        f"save_predictions={tmp_path / 'two_cache'}", cwd=tmp_path,
    )  # fmt: skip
    assert codes == [0, 0], outputs
    rows = rows_of(tmp_path / "one")
    assert sum(int(row[-3]) + int(row[-2]) for row in rows[1:]) > 0  # something was predicted
    assert same_rows(rows, rows_of(tmp_path / "two"))
    one, two = (list(PredictionReader(tmp_path / f"{name}_cache")) for name in ("one", "two"))
    assert len(one) == len(two) == 5
    for (id_a, a), (id_b, b) in zip(one, two, strict=True):
        assert id_a == id_b
        assert torch.equal(a.scores, b.scores)
        assert torch.equal(a.boxes, b.boxes)
    # the cache of two nodes alone gives the counts, too
    evaluate(tmp_path / "again", low, f"predictions={tmp_path / 'two_cache'}")
    assert same_rows(rows, rows_of(tmp_path / "again"))


@pytest.mark.ddp
@pytest.mark.slow
def test_two_nodes_train_what_one_node_of_two_processes_does(settings, tmp_path):
    short = [
        *settings, "trainer.max_steps=2", "trainer.val_check_interval=2", "compute_ap=false",
        "trainer.limit_val_batches=1.0",
    ]  # fmt: skip
    start_process(
        "train", *short, "trainer=ddp_cpu", f"hydra.run.dir={tmp_path / 'one'}",
        cwd=tmp_path, check=True,
    )  # fmt: skip
    where = f"hydra.run.dir={tmp_path / 'two'}"
    codes, outputs = run_on_two_nodes("train", *short, *TWO_NODES, where, cwd=tmp_path)
    assert codes == [0, 0], outputs
    one, two = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("one", "two")
    )
    assert one["global_step"] == two["global_step"] == 2
    assert all(torch.equal(value, two["state_dict"][k]) for k, value in one["state_dict"].items())
    assert same_rows(rows_of(tmp_path / "one"), rows_of(tmp_path / "two"))
    # the same command again: it is finished, on both nodes
    codes, outputs = run_on_two_nodes("train", *short, *TWO_NODES, where, cwd=tmp_path)
    assert codes == [0, 0], outputs
    assert "finished before" in outputs[0]


def test_several_processes_need_one_folder(settings, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run_main("train", *settings, *TWO_NODES, cwd=tmp_path) == 1
    assert capsys.readouterr().err.startswith("error: hydra.run.dir: a value is needed")


# --- sweeps ----------------------------------------------------------------------------------

QUICK = ["trainer.max_steps=1", "trainer.val_check_interval=1", "compute_ap=false"]


@pytest.mark.ddp
@pytest.mark.slow
def test_slurm_starts_the_processes_of_a_sweeps_job(settings, tmp_path, monkeypatch):
    pytest.importorskip(
        "hydra_plugins.hydra_submitit_launcher", reason="the slurm extra is not installed"
    )
    for name, value in make_slurm(tmp_path / "bin").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    start_process(
        "train", "-m", *settings, *QUICK, *TWO_NODES, "hydra/launcher=submitit_slurm",
        "hydra.launcher.tasks_per_node=2", "seed=0", "hydra.sweep.dir=sweep",
        cwd=tmp_path, check=True,
    )  # fmt: skip
    log = (tmp_path / "bin" / "log").read_text()
    assert "MEMBER: 2/2" in log
    assert log.count("results: ") == 1
    assert len([*(tmp_path / "sweep").glob("*/DONE")]) == 1


@pytest.mark.slow
def test_submitit_runs_jobs_on_this_machine(settings, tmp_path):
    pytest.importorskip(
        "hydra_plugins.hydra_submitit_launcher", reason="the slurm extra is not installed"
    )
    start_process(
        "train", "-m", *settings, *QUICK, "trainer=cpu", "hydra/launcher=submitit_local",
        "seed=0,1", "hydra.sweep.dir=sweep", cwd=tmp_path, check=True,
    )  # fmt: skip
    done = sorted(path.parent.name for path in (tmp_path / "sweep").glob("*/DONE"))
    assert [name.partition("+")[0] for name in done] == ["seed-0", "seed-1"]


@pytest.mark.parametrize(
    ("sweeper", "launcher", "line"),
    [
        (
            "hydra_plugins.optuna.S",
            "hydra._internal.L",
            "hydra/sweeper: optuna learns from results",
        ),
        ("hydra_plugins.refine_sweeper.S", "hydra_plugins.x.L", "hydra/launcher: x does not start"),
        ("hydra_plugins.refine_sweeper.S", "hydra._internal.L", None),
    ],
)
def test_sweeps_that_cannot_share_their_jobs_are_refused(monkeypatch, sweeper, launcher, line):
    two, one = (compose("train", [f"trainer={name}"]).trainer for name in ("ddp_cpu", "cpu"))
    hydra = {
        "mode": RunMode.MULTIRUN,
        "sweeper": {"_target_": sweeper},
        "launcher": {"_target_": launcher},
    }
    monkeypatch.setattr(HydraConfig.instance(), "cfg", OmegaConf.create({"hydra": hydra}))
    check_trainer(one)
    with nullcontext() if line is None else refused(line):
        check_trainer(two)


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_more_devices_than_there_are_is_one_line_before_anything_is_written(
    settings, tmp_path, accelerator, capsys, monkeypatch
):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    given = [f"trainer.accelerator={accelerator}", "trainer.devices=99", "data.root=toy"]
    assert run_main("train", *settings, *given, cwd=tmp_path) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: trainer")
    assert "99" in err
    assert len(err.splitlines()) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not (tmp_path / "toy").exists()


# --- how they end ----------------------------------------------------------------------------


@contextmanager
def two_processes(settings, folder):
    """A training on two processes that goes on and on: the first process, the id of the other."""
    words = [
        *settings, "trainer=ddp_cpu", "trainer.max_steps=100000", "compute_ap=false",
        "callbacks.last.every_n_train_steps=1", f"hydra.run.dir={folder}",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "refine.train", *words],
        text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=folder.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        end = time.monotonic() + 240
        while not (folder / "checkpoints" / "last.ckpt").exists():
            time.sleep(0.1)
            assert process.poll() is None, process.stderr.read()[-2000:]
            assert time.monotonic() < end
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (other,) = (int(child) for child in children if is_alive(int(child)))
        yield process, other
    finally:
        process.kill()


def is_alive(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def seconds_until(is_over):
    start = time.monotonic()
    while not is_over() and time.monotonic() < start + 2 * LIMIT_S:
        time.sleep(0.1)
    return time.monotonic() - start


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_both_processes_after_the_same_step(settings, tmp_path, number):
    with two_processes(settings, tmp_path / "run") as (process, other):
        process.send_signal(number)
        assert seconds_until(lambda: process.poll() is not None and not is_alive(other)) < LIMIT_S
        assert process.returncode == 128 + number
        lines = [line for line in process.stderr.read().splitlines() if "interrupted" in line]
        assert len(lines) == 1
        assert lines[0].startswith("interrupted; to go on: python -m refine.train ")
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] > 0
    assert not [*tmp_path.rglob("*.part")]


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["first", "other"])
def test_a_killed_process_ends_the_other_one(settings, tmp_path, victim):
    with two_processes(settings, tmp_path / "run") as (process, other):
        os.kill(process.pid if victim == "first" else other, signal.SIGKILL)
        assert seconds_until(lambda: process.poll() is not None and not is_alive(other)) < LIMIT_S
        assert process.returncode != 0
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] > 0


@pytest.mark.parametrize(
    ("slurm", "trainer", "environment"),
    [
        ({"NTASKS": 2}, "cpu", None),  # a shell within an allocation
        ({"NTASKS": 1}, "ddp_cpu", LightningEnvironment),  # a batch script without srun
        ({"NTASKS": 2, "NTASKS_PER_NODE": 2}, "ddp_cpu", LightningEnvironment),
        ({"NTASKS": 2, "NTASKS_PER_NODE": 2, "STEP_NUM_TASKS": 2}, "ddp_cpu", SLURMEnvironment),
    ],
)
def test_only_what_srun_has_started_is_one_of_slurm_s_tasks(
    monkeypatch, slurm, trainer, environment
):
    for name, value in {"JOB_NAME": "x", "PROCID": 0, "LOCALID": 0, "NODEID": 0, **slurm}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    options = compose("train", [f"trainer={trainer}"]).trainer
    built = build_trainer(options, callbacks=[], loggers=[])
    assert built.world_size == options.devices
    if environment is not None:
        assert type(built.strategy.cluster_environment) is environment


FOUR = [
    "trainer=cpu", "trainer.max_steps=4", "trainer.val_check_interval=4", "compute_ap=false",
    "trainer.limit_val_batches=1", "callbacks.best=null",
]  # fmt: skip


def test_slurm_requeues_a_training_between_two_steps(settings, start, tmp_path, monkeypatch):
    """Slurm sends SIGUSR1 before the time is over, and SIGTERM to the job that is requeued."""
    start(tmp_path / "unbroken", *FOUR)
    run, bin_dir = tmp_path / "run", tmp_path / "bin"
    bin_dir.mkdir()
    scontrol = bin_dir / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $@ > {tmp_path}/called; cp {run}/hpc* {tmp_path}/saved\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_dir), prepend=os.pathsep)
    slurm = {"JOB_ID": 7, "NTASKS": 1, "JOB_NAME": "refine", "PROCID": 0, "LOCALID": 0, "NODEID": 0}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    original = DetectorModule.training_step

    def training_step(self, batch, batch_idx):
        if not (tmp_path / "saved").exists() and self.global_step == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        if (tmp_path / "saved").exists() and self.global_step == 2:
            shutil.copytree(run, tmp_path / "requeued", dirs_exist_ok=True)
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx)

    command = [*settings, *FOUR, f"hydra.run.dir={run}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DetectorModule, "training_step", training_step)
        assert run_main("train", *command, cwd=tmp_path) == 128 + signal.SIGTERM
    assert (tmp_path / "called").read_text() == "requeue 7\n"
    assert torch.load(tmp_path / "saved", weights_only=True)["global_step"] == 2  # a whole step
    assert not [*run.glob("hpc*")]  # SIGTERM saved a later one
    whole = torch.load(tmp_path / "unbroken" / "checkpoints" / "last.ckpt", weights_only=True)
    shutil.rmtree(run)
    shutil.copytree(tmp_path / "requeued", run)  # had it been killed
    with steps_of(DetectorModule) as steps:
        assert run_main("train", *command, cwd=tmp_path) == 0
    assert steps == [2, 3]
    resumed = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, resumed[key]) for key, value in whole["state_dict"].items())


def test_a_signal_in_a_validation_ends_it_after_the_image(settings, tmp_path, monkeypatch):
    images = []
    original = DetectorModule.validation_step

    def validation_step(self, batch):
        images.append(batch)
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch)

    monkeypatch.setattr(DetectorModule, "validation_step", validation_step)
    command = [*settings, *FOUR, "trainer.limit_val_batches=3", f"hydra.run.dir={tmp_path / 'run'}"]
    assert run_main("train", *command, cwd=tmp_path) == 143
    assert len(images) == 1
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 4
