"""One W&B run a job: started once, closed always. W&B itself is played."""

import json
import logging
import sys
from types import SimpleNamespace

import pytest

from refine.callbacks import wandb_run
from refine.callbacks.wandb_run import Job, WandbRun, begin_job, end_job, finish_run
from refine.errors import RefineError


class PlayedRun:
    def __init__(self, arguments):
        self.arguments = arguments
        self.id = f"id{len(arguments)}"
        self.logged, self.artifacts, self.exit_codes = [], [], []

    def define_metric(self, *args, **kwargs):
        pass

    def log(self, values):
        assert not self.exit_codes, "logged after its end"
        self.logged.append(values)

    def log_artifact(self, artifact, aliases):
        self.artifacts.append((artifact.files, aliases))

    def finish(self, exit_code):
        self.exit_codes.append(exit_code)


class PlayedArtifact:
    def __init__(self, *_, **__):
        self.files = []

    def add_file(self, path):
        self.files.append(path.rsplit("/", 1)[1])


class PlayedError(Exception):
    pass


@pytest.fixture
def runs(monkeypatch):
    """The runs that were started; each test begins and ends without an open one."""
    started = []

    def init(**arguments):
        started.append(PlayedRun(arguments))
        return started[-1]

    played = SimpleNamespace(
        init=init,
        login=lambda **_: False,
        Error=PlayedError,
        Settings=lambda **settings: settings,
        Artifact=PlayedArtifact,
        Table=lambda columns, data: (columns, data),
    )
    monkeypatch.setitem(sys.modules, "wandb", played)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb_run, "_process", type(wandb_run._process)())
    return started


def a_job(folder, **changes):
    settings = {"pattern": f"{folder}/*", "name": "n", "kind": "train", "config": {"seed": 3}}
    return Job(folder=folder, **(settings | changes))


def test_loggers_of_a_job_share_a_run_and_the_next_job_has_its_own(runs, tmp_path):
    for number, exit_code in enumerate((0, 1)):
        begin_job(a_job(tmp_path / str(number)))
        for stage in ("panoptic", "occlusion"):
            logger = WandbRun(str(tmp_path / str(number) / stage), mode="offline")
            logger.log_metrics({"train/loss": float(number)}, step=4)
            logger.finalize("success")
        end_job(exit_code=exit_code)
    assert [run.exit_codes for run in runs] == [[0], [1]]
    assert [len(run.logged) for run in runs] == [2, 2]
    assert runs[1].logged[0] == {"train/loss": 1.0, "trainer/global_step": 4}


def test_a_job_that_logs_nothing_has_no_run(runs, tmp_path):
    begin_job(a_job(tmp_path))
    end_job(exit_code=0)
    assert runs == []


def test_a_job_that_was_never_ended_is_closed_by_the_next(runs, tmp_path):
    begin_job(a_job(tmp_path))
    WandbRun(str(tmp_path), mode="offline").log_metrics({})
    begin_job(a_job(tmp_path))
    assert runs[0].exit_codes == [0]


def test_without_hydra_a_folder_is_a_run(runs, tmp_path):
    for name in ("a", "a", "b"):
        WandbRun(str(tmp_path / name), mode="offline").log_metrics({"x": 1})
    assert [run.arguments["name"] for run in runs] == ["a", "b"]
    assert [run.exit_codes for run in runs] == [[0], []]


def test_a_failed_training_ends_its_run(runs, tmp_path):
    logger = WandbRun(str(tmp_path), mode="offline")
    logger.log_metrics({"x": 1})
    logger.finalize("failed")
    finish_run()
    assert runs[0].exit_codes == [1]


def test_the_run_is_filed_under_its_job(runs, tmp_path):
    job = a_job(tmp_path, group="sigma", row="sigma=2", tags=("toy", "x" * 70))
    begin_job(job)
    WandbRun(str(tmp_path), mode="offline", project="p", tags=["mine", "toy"]).log_metrics({})
    arguments = runs[0].arguments
    assert arguments["group"] == "sigma"
    assert arguments["tags"] == ["toy", "x" * 64, "mine"]
    assert arguments["config"] == {"seed": 3, "row": "sigma=2", "ablation": "sigma"}
    assert (arguments["project"], arguments["job_type"]) == ("p", "train")
    assert arguments["reinit"] == "create_new"
    assert arguments["dir"] == str(tmp_path)


def test_without_hydra_the_configuration_is_that_of_the_folder(runs, tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 5\n")
    WandbRun(str(tmp_path), mode="offline").log_metrics({})
    assert runs[0].arguments["config"]["seed"] == 5


def test_without_a_key_it_logs_offline_and_says_once_how_to_sync(runs, tmp_path, caplog):
    for name in ("a", "b"):
        begin_job(a_job(tmp_path / name, pattern=f"{tmp_path}/*/wandb/offline-run-*"))
        WandbRun(str(tmp_path / name)).log_metrics({})
        end_job(exit_code=0)
    assert [run.arguments["mode"] for run in runs] == ["offline"] * 2
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert f"wandb sync {tmp_path}/*/wandb/offline-run-*" in line
    assert "API key" in line
    assert "\n" not in line


def test_with_a_key_w_and_b_decides(runs, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sys.modules["wandb"], "login", lambda **_: True)
    WandbRun(str(tmp_path)).log_metrics({})
    assert runs[0].arguments["mode"] is None
    assert not caplog.records


def test_the_environment_s_mode_is_heeded(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    WandbRun(str(tmp_path)).log_metrics({})
    assert runs[0].arguments["mode"] == "disabled"


@pytest.mark.parametrize(
    ("checkpoints", "expected"),
    [("none", []), ("best", ["best.ckpt"]), ("all", ["best.ckpt", "last.ckpt"])],
)
def test_checkpoints_become_artifacts_by_switch(runs, tmp_path, checkpoints, expected):
    (tmp_path / "checkpoints").mkdir()
    for name in ("last", "best"):
        (tmp_path / "checkpoints" / f"{name}.ckpt").touch()
    WandbRun(str(tmp_path), mode="offline", checkpoints=checkpoints).log_metrics({})
    finish_run()
    assert [files for files, _ in runs[0].artifacts] == [[name] for name in expected]
    assert runs[0].exit_codes == [0]


def test_a_run_is_closed_even_if_a_checkpoint_cannot_be_kept(runs, tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.ckpt").touch()
    WandbRun(str(tmp_path), mode="offline", checkpoints="best").log_metrics({})
    monkeypatch.setattr(PlayedArtifact, "add_file", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        finish_run()
    assert runs[0].exit_codes == [0]


def test_results_are_logged_under_the_contract_s_names(runs, tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"pq": 0.5, "num_images": 3}))
    (tmp_path / "per_category.csv").write_text('category_id,name,pq\n7,"cat, big",0.5\n')
    WandbRun(str(tmp_path), mode="offline").log_results()
    (values,) = runs[0].logged
    assert (values["val/pq"], values["val/num_images"]) == (0.5, 3)
    assert values["val/per_category"] == (["category_id", "name", "pq"], [[7, "cat, big", 0.5]])


@pytest.mark.parametrize("setting", [{"mode": "onlien"}, {"checkpoints": "first"}], ids=str)
def test_unknown_settings_are_refused(runs, tmp_path, setting):
    with pytest.raises(RefineError, match=rf"logger\.wandb\.{next(iter(setting))}"):
        WandbRun(str(tmp_path), **setting).log_metrics({})
    assert runs == []


def test_without_w_and_b_there_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RefineError, match=r"pip install 'refine-panoptic\[wandb\]'"):
        WandbRun(str(tmp_path)).log_metrics({})


def test_w_and_b_s_refusal_is_one_clear_line(runs, tmp_path, monkeypatch):
    def refuse(**_):
        raise PlayedError("no such\nentity")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    with pytest.raises(RefineError, match=r"W&B: no such entity .*mode=offline"):
        WandbRun(str(tmp_path), mode="online").log_metrics({})
