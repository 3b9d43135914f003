"""One W&B run per job: started once, closed always. W&B itself is played."""

import json
import logging
import sys
from unittest.mock import MagicMock, call

import pytest

from refine.callbacks.wandb_run import WandbJob, WandbRun, finish_run
from refine.config.instantiate import build
from refine.config.job import Job
from refine.errors import RefineError


@pytest.fixture
def wandb(monkeypatch):
    """The library; ``runs`` are those that were started, with the ``arguments`` of each."""
    played = MagicMock(runs=[], Error=type("Error", (Exception,), {}))
    played.login.return_value = False  # no API key
    played.Table = lambda columns, data, dataframe: (columns, data)

    def init(**arguments):
        played.runs.append(MagicMock(arguments=arguments))
        return played.runs[-1]

    played.init.side_effect = init
    monkeypatch.setitem(sys.modules, "wandb", played)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    yield played
    finish_run()


def exit_codes(runs):
    return [[c.kwargs["exit_code"] for c in run.finish.call_args_list] for run in runs]


def run_job(job, *, failed=False, writes=False, logs=True, **settings):
    """A job that logs, writes its results, both or none."""
    callback = WandbJob(**settings)
    callback.start(job)
    if logs:
        WandbRun(str(job.run_dir), **settings).log_metrics({"x": 1})
    if writes:
        job.run_dir.mkdir(exist_ok=True)
        (job.run_dir / "metrics.json").write_text(json.dumps({"pq": 0.5, "num_images": 3}))
        table = 'category_id,name,pq\n7,"cat, big",0.5\n'
        (job.run_dir / "per_category.csv").write_text(table)
        (job.run_dir / "DONE").touch()
    callback.end(job, failed=failed)


def test_loggers_of_a_job_share_a_run_and_the_next_job_has_its_own(wandb, tmp_path):
    for number in (0, 1):
        job, callback = Job(command="train", run_dir=tmp_path / str(number)), WandbJob()
        callback.start(job)
        for stage in ("panoptic", "occlusion"):
            logger = WandbRun(str(job.run_dir / stage))
            logger.log_metrics({"train/loss": float(number)}, step=4)
            logger.finalize("success")
        if number:  # the first one is never ended: the next one closes it
            callback.end(job, failed=True)
    assert exit_codes(wandb.runs) == [[0], [1]]
    assert [len(run.log.mock_calls) for run in wandb.runs] == [2, 2]
    assert wandb.runs[1].log.call_args == call({"train/loss": 1.0, "trainer/global_step": 4})


def test_without_a_job_a_folder_is_a_run_and_knows_its_configuration(wandb, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.yaml").write_text("seed: 5\n")
    for name in ("a", "a", "b"):
        logger = WandbRun(str(tmp_path / name))
        logger.log_metrics({"x": 1})
    assert [run.arguments["name"] for run in wandb.runs] == ["train a", "train b"]
    assert wandb.runs[0].arguments["config"]["seed"] == 5
    logger.finalize("failed")
    finish_run()
    assert exit_codes(wandb.runs) == [[0], [1]]


SWEPT = {"overrides": ("sigma=2", "data=toy", "seed=1"), "swept": frozenset({"sigma", "seed"})}


@pytest.mark.parametrize(
    ("sweep", "job", "expected"),
    [
        ("sigmas", SWEPT, ("sigma=2,seed=1", "sigmas", "sigma=2")),
        (None, {"choices": {"experiment": "toy"}}, ("toy run", None, "toy")),
        (None, {}, ("train run", None, None)),
    ],
    ids=["of a sweep", "of an experiment", "plain"],
)
def test_the_run_is_filed_under_its_job(wandb, tmp_path, sweep, job, expected):
    sweep_dir = sweep and tmp_path / sweep
    job = Job(command="train", run_dir=tmp_path / "run", sweep_dir=sweep_dir, **job)
    run_job(job)
    run_job(job, project="p", tags=["mine", "toy", "x" * 70], group="g")
    arguments, chosen = (run.arguments for run in wandb.runs)
    config = arguments["config"]
    assert (arguments["name"], arguments["group"], config["row"]) == expected
    assert config["ablation"] == arguments["group"]
    assert (arguments["job_type"], arguments["reinit"]) == ("train", "create_new")
    assert arguments["dir"] == str(tmp_path / "run")
    assert (chosen["project"], chosen["group"]) == ("p", "g")
    assert sorted(chosen["tags"]) == ["mine", "toy", "x" * 64]


def test_without_a_key_it_logs_offline_and_says_once_how_to_sync(wandb, tmp_path, caplog):
    for name in ("a", "b"):
        run_job(Job(command="train", run_dir=tmp_path / name, sweep_dir=tmp_path))
    assert [run.arguments["mode"] for run in wandb.runs] == ["offline"] * 2
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    message = record.getMessage()
    assert "API key (wandb login); to upload the runs later: wandb sync " in message
    assert message.endswith(f"{tmp_path}/*/wandb/offline-run-*")


@pytest.mark.parametrize("mode", [None, "disabled"])
def test_with_a_key_w_and_b_decides_and_the_environment_is_heeded(
    wandb, tmp_path, monkeypatch, caplog, mode
):
    wandb.login.return_value = True
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    WandbRun(str(tmp_path)).log_metrics({})
    assert wandb.runs[0].arguments["mode"] == mode
    assert not caplog.records


@pytest.mark.parametrize(
    ("checkpoints", "expected"), [("none", []), ("best", ["best"]), ("all", ["best", "last"])]
)
def test_checkpoints_become_artifacts_by_switch(wandb, tmp_path, checkpoints, expected):
    (tmp_path / "checkpoints").mkdir()
    for name in ("last", "best"):
        (tmp_path / "checkpoints" / f"{name}.ckpt").touch()
    run_job(job := Job(command="train", run_dir=tmp_path), checkpoints=checkpoints)
    logged = [c.kwargs["aliases"] for c in wandb.runs[0].log_artifact.call_args_list]
    assert logged == [[name] for name in expected]
    if expected:  # the run is closed even if a checkpoint cannot be kept
        wandb.Artifact.side_effect = OSError
        with pytest.raises(OSError):  # noqa: PT011
            run_job(job, checkpoints=checkpoints)
    assert exit_codes(wandb.runs) == [[0]] * len(wandb.runs)


def test_new_results_are_logged_under_their_names_and_old_ones_left_alone(wandb, tmp_path):
    job = Job(command="evaluate", run_dir=tmp_path)
    run_job(job, logs=False, writes=True)
    scalars, table = (c.args[0] for c in wandb.runs[0].log.call_args_list)
    assert scalars == {"val/pq": 0.5, "val/num_images": 3}
    assert table == {"val/per_category": (["category_id", "name", "pq"], [[7, "cat, big", 0.5]])}
    run_job(job, logs=False)
    run_job(job, logs=False, failed=True)
    assert exit_codes(wandb.runs) == [[0]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "onlien"}, r"logger\.wandb\.mode=onlien"),
        ({"checkpoints": "first"}, r"logger\.wandb\.checkpoints=first"),
        ({"mode": "online"}, r"W&B: no such entity .*mode=offline"),
    ],
)
def test_unknown_settings_refusals_and_a_missing_w_and_b_are_one_clear_line(
    wandb, tmp_path, monkeypatch, settings, message
):
    wandb.init.side_effect = wandb.Error("no such\nentity")
    with pytest.raises(RefineError, match=message):
        WandbRun(str(tmp_path), **settings).log_metrics({})
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RefineError, match=r"^logger=wandb .*'refine-panoptic\[wandb\]'"):
        build({"_target_": "refine.callbacks.wandb_run.WandbRun", "run_dir": str(tmp_path)})
