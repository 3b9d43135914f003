import pytest

from made_up_runs import finish_run
from make.scripts import load_script
from refine.errors import RefineError
from refine.runs.results import write_config


class FakeTrainings:
    """Instead of processes; ``behaviour`` maps a job to its exit code."""

    behaviour = staticmethod(lambda job: 0)
    num_threads = None

    def __init__(self, num_threads):
        FakeTrainings.num_threads = num_threads

    def run(self, job, _checkpoint):
        write_config(job.run_dir, job.config)
        code = self.behaviour(job)
        if code == 0:
            metrics = {"pq": 0.5, "pq_things": 0.4, "pq_stuff": 0.6}
            finish_run(job.run_dir, metrics)
        return code

    def stop(self):
        pass


@pytest.fixture
def script(monkeypatch, tmp_path):
    module = load_script("toy_study")
    datasets = []
    monkeypatch.setattr(module, "TrainingProcesses", FakeTrainings)
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    monkeypatch.setattr(module, "ensure_toy_dataset", lambda *args: datasets.append(args))
    monkeypatch.setattr(module.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(FakeTrainings, "behaviour", staticmethod(lambda job: 0))
    monkeypatch.chdir(tmp_path)
    module.datasets = datasets
    return module


ARGUMENTS = ["--experiments", "toy", "--seeds", "0", "1", "--out", "study", "--jobs", "2"]


def test_the_study_ends_with_its_table(script, tmp_path, capsys):
    assert script.main([*ARGUMENTS, "--num-val", "9", "--", "schedule.max_steps=5"]) == 0
    table = (tmp_path / "study" / "table.md").read_text()
    assert capsys.readouterr().out == table
    assert "50.00 ± 0.00" in table
    (root, options) = script.datasets[0]
    assert (str(root), options.num_val) == ("data/toy_val9", 9)
    assert FakeTrainings.num_threads == 4
    config = (tmp_path / "study" / "toy" / "seed1" / "config.yaml").read_text()
    assert "max_steps: 5" in config


def test_a_failure_gives_exit_code_1_and_the_rest(script, monkeypatch, capsys):
    monkeypatch.setattr(FakeTrainings, "behaviour", staticmethod(lambda job: int(job.seed == 0)))
    assert script.main(ARGUMENTS) == 1
    out = capsys.readouterr().out
    assert "- toy seed 0 failed: " in out
    assert "| toy        | 1     | 50.0" in out


def test_an_interruption_says_how_to_go_on(script, monkeypatch, capsys):
    def interrupt(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeTrainings, "behaviour", staticmethod(interrupt))
    assert script.main(ARGUMENTS) == 130
    assert "the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--experiments", "no_such"], [*ARGUMENTS, "--", "schedule.max_stepz=5"]]
)
def test_a_wrong_name_is_one_line_before_anything_runs(script, arguments, capsys):
    assert script.main(arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.strip().count("\n") == 0
    assert not script.datasets


def test_scenes_that_cannot_be_written_are_one_line(script, monkeypatch, capsys):
    def refuse(root, options):
        raise RefineError(f"{root}: holds something else")

    monkeypatch.setattr(script, "ensure_toy_dataset", refuse)
    assert script.main([*ARGUMENTS, "--data-root", "elsewhere"]) == 1
    assert "error: elsewhere: holds something else" in capsys.readouterr().err


def test_no_jobs_at_a_time_are_refused(script, capsys):
    with pytest.raises(SystemExit):
        script.main(["--jobs", "0"])
    assert "at least 1" in capsys.readouterr().err


def test_the_default_study_is_the_one_of_the_results(script):
    args = script.parse_args([])
    assert tuple(args.experiments) == (
        "toy_ibpp0", "toy_cascade", "toy_ibpp1", "toy_ibpp2", "toy_ibpp3",
    )  # fmt: skip
    assert (tuple(args.seeds), args.num_val, args.reference) == ((0, 1, 2), 500, "toy_cascade")
