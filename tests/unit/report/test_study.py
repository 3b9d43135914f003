import json
import sys
import threading

import pytest

from made_up_runs import finish_run
from refine.config.composition import compose
from refine.config.instantiate import to_plain
from refine.errors import RefineError
from refine.report.study import (
    TrainingProcesses,
    build_jobs,
    quote,
    read_seconds,
    run_study,
    to_command,
)
from refine.report.study_table import to_markdown
from refine.runs.results import write_config


def compose_fake(overrides):
    """Enough of a configuration: what was overridden, and a place that depends on the run."""
    config = dict(text.split("=", 1) for text in overrides)
    run_dir = config["run_dir"].strip("'")
    return config | {
        "run_dir": run_dir,
        "ckpt_path": None,
        "nested": {"dirpath": f"{run_dir}/checkpoints", "lr": 1e-5, "none": None, "empty": {}},
    }


def make_jobs(out, experiments=("base", "ours"), seeds=(0, 1, 2), overrides=()):
    return build_jobs(experiments, seeds, out=out, overrides=overrides, compose=compose_fake)


class FakeRunner:
    """Leaves what a training leaves; fails or breaks off where it is told to."""

    def __init__(self, failing=(), interrupted_by=None, metrics=None):
        self.failing = failing
        self.interrupted_by = interrupted_by
        self.metrics = metrics or {}
        self.calls = []
        self.is_stopped = False

    def run(self, job, checkpoint):
        self.calls.append((job.name, checkpoint is not None))
        write_config(job.run_dir, {**job.config, "ckpt_path": checkpoint and str(checkpoint)})
        if job.name == self.interrupted_by:
            (job.run_dir / "checkpoints").mkdir()
            (job.run_dir / "checkpoints" / "last.ckpt").touch()
            raise KeyboardInterrupt
        if job.name in self.failing:
            (job.run_dir / "train.log").write_text("epoch 1\nerror: the loss is not finite\n\n")
            return 1
        pq = 0.5 + 0.01 * job.seed + (0.02 * (1 + job.seed) if job.experiment == "ours" else 0)
        metrics = {"pq": pq, "pq_things": pq - 0.1, "pq_stuff": pq + 0.1} | self.metrics
        finish_run(job.run_dir, metrics)
        return 0

    def stop(self):
        self.is_stopped = True


def test_every_experiment_runs_with_every_seed(tmp_path):
    runner = FakeRunner()
    outcomes = run_study(make_jobs(tmp_path, seeds=(0, 1, 1)), runner)
    assert [o.error for o in outcomes] == [None] * 4
    names = ["base seed 0", "ours seed 0", "base seed 1", "ours seed 1"]
    assert runner.calls == [(name, False) for name in names]
    assert (tmp_path / "ours" / "seed1" / "DONE").is_file()


def test_finished_runs_are_left_alone(tmp_path):
    run_study(make_jobs(tmp_path, seeds=(0,)), FakeRunner())
    again = FakeRunner()
    outcomes = run_study(make_jobs(tmp_path), again)
    assert [o.error for o in outcomes] == [None] * 6
    assert [name for name, _ in again.calls] == [
        f"{e} seed {s}" for s in (1, 2) for e in ("base", "ours")
    ]


def test_an_interrupted_study_goes_on_from_the_checkpoint(tmp_path):
    broken = FakeRunner(interrupted_by="ours seed 0")
    with pytest.raises(KeyboardInterrupt):
        run_study(make_jobs(tmp_path), broken)
    assert broken.is_stopped
    again = FakeRunner()
    outcomes = run_study(make_jobs(tmp_path), again)
    assert [o.error for o in outcomes] == [None] * 6
    assert ("ours seed 0", True) in again.calls
    assert ("base seed 0", False) not in again.calls
    once_more = FakeRunner()
    run_study(make_jobs(tmp_path), once_more)
    assert not once_more.calls, "a resumed run counts as the same configuration"


def test_a_failed_run_is_named_and_the_others_go_on(tmp_path):
    outcomes = run_study(make_jobs(tmp_path), FakeRunner(failing=["ours seed 1"]))
    failed = [o for o in outcomes if o.error is not None]
    assert [o.job.name for o in failed] == ["ours seed 1"]
    assert failed[0].error.startswith("error: the loss is not finite (exit code 1; ")
    assert len(outcomes) == 6


def test_success_without_results_is_a_failure(tmp_path):
    class Liar(FakeRunner):
        def run(self, *_):
            return 0

    (outcome,) = run_study(make_jobs(tmp_path, ["base"], [0]), Liar())
    assert outcome.error.startswith("it printed nothing (exit code 0;")


@pytest.mark.parametrize("is_done", [True, False])
def test_another_configuration_is_refused_before_anything_starts(tmp_path, is_done):
    run_study(make_jobs(tmp_path, ["ours"], [2], overrides=["steps=10"]), FakeRunner())
    if not is_done:
        (tmp_path / "ours" / "seed2" / "DONE").unlink()
    runner = FakeRunner()
    jobs = make_jobs(tmp_path, overrides=["steps=11"])
    with pytest.raises(RefineError, match=r"seed2: .* \(steps is 10 there and 11 here\)"):
        run_study(jobs, runner)
    assert not runner.calls


def test_a_knob_that_is_new_is_another_configuration(tmp_path):
    run_study(make_jobs(tmp_path, ["ours"], [2]), FakeRunner())
    jobs = make_jobs(tmp_path, overrides=["steps=11"])
    with pytest.raises(RefineError, match="steps is absent there and 11 here"):
        run_study(jobs, FakeRunner())


def test_results_without_a_configuration_are_refused(tmp_path):
    folder = tmp_path / "base" / "seed0"
    folder.mkdir(parents=True)
    (folder / "DONE").touch()
    with pytest.raises(RefineError, match=r"without config\.yaml"):
        run_study(make_jobs(tmp_path), FakeRunner())


def test_a_moved_study_is_still_the_same(tmp_path):
    run_study(make_jobs(tmp_path / "old"), FakeRunner())
    (tmp_path / "old").rename(tmp_path / "new")
    runner = FakeRunner()
    run_study(make_jobs(tmp_path / "new"), runner)
    assert not runner.calls


def test_jobs_run_side_by_side(tmp_path):
    barrier = threading.Barrier(2, timeout=10)

    class Together(FakeRunner):
        def run(self, job, checkpoint):
            barrier.wait()
            return super().run(job, checkpoint)

    outcomes = run_study(make_jobs(tmp_path), Together(), num_parallel=2)
    assert [o.error for o in outcomes] == [None] * 6


def test_seconds_add_up_over_attempts_or_are_unknown(tmp_path):
    (job,) = make_jobs(tmp_path, ["base"], [0])
    assert read_seconds(job) is None
    run_study([job], FakeRunner(failing=["base seed 0"]))
    attempts = job.run_dir / "attempts.json"
    attempts.write_text("[100.5]")
    run_study([job], FakeRunner())
    assert read_seconds(job) == pytest.approx(100.5, abs=5)
    assert len(json.loads(attempts.read_text())) == 2
    attempts.write_text("[null, 7.0]")
    assert read_seconds(job) is None


def test_the_real_configuration_survives_its_file(tmp_path):
    """What ``refine.train`` writes equals what is composed here, floats and places included."""

    def compose_real(overrides):
        return to_plain(compose("train", overrides))

    runner = FakeRunner()
    for expected_calls in (1, 1):
        jobs = build_jobs(
            ["toy"],
            [1],
            out=tmp_path / "it's a=b",
            overrides=["data.toy.num_val=7", "optimizer.lr=1e-5"],
            compose=compose_real,
        )
        run_study(jobs, runner)
        assert len(runner.calls) == expected_calls
    assert jobs[0].config["run_dir"] == str(tmp_path / "it's a=b" / "toy" / "seed1")
    assert jobs[0].config["data"]["toy"]["num_val"] == 7


def test_the_command_line(tmp_path):
    (job,) = make_jobs(tmp_path, ["ours"], [3], overrides=["a.b=1"])
    command = to_command(job, None)
    assert command[1:] == [
        "-m", "refine.train", "experiment=ours", "seed=3", "a.b=1",
        f"hydra.run.dir='{tmp_path}/ours/seed3'",
    ]  # fmt: skip
    assert to_command(job, tmp_path / "last.ckpt") == [
        *command, f"ckpt_path='{tmp_path}/last.ckpt'"
    ]  # fmt: skip
    assert quote(tmp_path / "it's") == f"'{tmp_path}/it\\'s'"


@pytest.fixture
def python_job(tmp_path, monkeypatch):
    """A job whose process runs the given code instead of a training."""

    def make(code):
        command = [sys.executable, "-c", code]
        monkeypatch.setattr("refine.report.study.to_command", lambda job, checkpoint: command)
        return make_jobs(tmp_path, ["base"], [0])[0]

    return make


def test_a_process_gets_its_threads_and_its_log(python_job):
    job = python_job("import os, sys; print(os.environ['OMP_NUM_THREADS']); sys.exit('no good')")
    assert TrainingProcesses(num_threads=3).run(job, None) == 1
    assert (job.run_dir / "train.log").read_text().split("\n") == ["3", "no good", ""]


def test_stopping_ends_what_runs_and_starts_no_more(python_job):
    job = python_job("print('up', flush=True); import time; time.sleep(60)")
    processes = TrainingProcesses(num_threads=1)
    codes = []
    thread = threading.Thread(target=lambda: codes.append(processes.run(job, None)))
    thread.start()
    log = job.run_dir / "train.log"
    for _ in range(500):
        if log.is_file() and "up" in log.read_text():
            break
        thread.join(0.02)
    processes.stop()
    thread.join(10)
    assert codes == [-15]
    assert processes.run(job, None) == 1
    assert log.read_text().count("up") == 1


def rows_of(table, first_cell):
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()]
    return [row[1:] for row in rows if row[0] == first_cell]


def test_table_has_every_seed_the_means_and_paired_differences(tmp_path):
    jobs = make_jobs(tmp_path)
    outcomes = run_study(jobs, FakeRunner(metrics={"consensus_gap": 0.125}))
    for job in jobs:
        (job.run_dir / "attempts.json").write_text("[150, 30]")
    table = to_markdown(outcomes, reference="base")
    *seeds, mean = rows_of(table, "base")
    assert seeds == [
        ["0", "50.0", "40.0", "60.0", "12.5", "3.0"],
        ["1", "51.0", "41.0", "61.0", "12.5", "3.0"],
        ["2", "52.0", "42.0", "62.0", "12.5", "3.0"],
    ]
    # 50, 51, 52: standard deviation 1, over the root of 3
    assert mean == ["3", "51.00 ± 0.58", "41.00 ± 0.58", "61.00 ± 0.58", "12.50 ± 0.00"]
    difference = rows_of(table, "ours")[-1]  # +2, +4, +6
    assert difference == ["3", *["+4.00 ± 1.15"] * 3, "+0.00 ± 0.00"]
    assert "Difference to base" in table


def test_table_of_what_is_missing(tmp_path):
    failing = ["ours seed 1", "worse seed 0", "worse seed 1"]
    jobs = make_jobs(tmp_path, ["base", "ours", "worse"], [0, 1])
    table = to_markdown(run_study(jobs, FakeRunner(failing=failing)), reference="base")
    assert rows_of(table, "ours")[1] == ["1", *["failed"] * 5]
    assert rows_of(table, "ours")[-1] == ["1", *["+2.00 ± —"] * 3, "—"], "seed 0 alone"
    assert rows_of(table, "worse")[2:] == [["0", *["—"] * 4]] * 2
    assert rows_of(table, "base")[0][4] == "—", "no consensus gap"
    assert table.count(" failed: error: the loss is not finite") == 3


def test_without_the_reference_there_are_no_differences(tmp_path):
    outcomes = run_study(make_jobs(tmp_path), FakeRunner())
    assert "Difference" not in to_markdown(outcomes, reference="toy_cascade")
