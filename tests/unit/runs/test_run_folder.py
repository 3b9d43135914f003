import json
import shutil
from dataclasses import replace

import pytest
import torch

from make.errors import refused
from refine.categories import Category, CategoryTable
from refine.config import compose
from refine.metrics.functional import GroupQuality
from refine.runs.checkpoint import make_record
from refine.runs.console import print_table
from refine.runs.run_folder import RunFolder, hash_config


@pytest.fixture(scope="module")
def settings():
    return compose("train", ["experiment=toy", "run_dir=x"])


def _save_last(folder, settings):
    table = CategoryTable([Category(dataset_id=1, name="ball", is_thing=True, color=(1, 1, 1))])
    folder.last_checkpoint.parent.mkdir(exist_ok=True, parents=True)
    record = make_record(settings.to_plain(), table)
    content = {"state_dict": {}, "refine": record, "optimizer_states": []}
    torch.save(content, folder.last_checkpoint)


def test_what_a_command_finds(settings, tmp_path, capsys):
    folder = RunFolder(tmp_path)
    assert folder.inspect(settings).status == "new"
    folder.write_config(settings.to_plain())
    assert folder.inspect(settings).status == "new"  # it started: there is nothing to go on from
    assert folder.inspect(replace(settings, seed=1)) == ("foreign", None, ("seed",))
    _save_last(folder, replace(settings, seed=1))
    assert folder.inspect(settings).status == "foreign"  # the checkpoint is older than config.yaml
    _save_last(folder, settings)
    assert folder.inspect(settings) == ("resumable", folder.last_checkpoint, ())
    older = shutil.copy(folder.last_checkpoint, folder.last_checkpoint.with_name("best.ckpt"))
    folder.last_checkpoint.write_bytes(older.read_bytes()[:99])
    assert folder.inspect(settings) == ("resumable", older, ())
    assert "last.ckpt cannot be read: goes on from" in capsys.readouterr().out
    folder.write_results({"pq": 0.5}, settings=settings)
    assert folder.inspect(settings).status == "finished"
    assert folder.read_finished(settings) == {"pq": 0.5}
    assert folder.read_finished(replace(settings, draw=1)) is None


def test_where_a_run_goes_on_may_differ_but_not_what_it_learns(settings, tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_config(settings.to_plain())
    places = {"devices": 2, "limit_val_batches": 3}
    for learns in ({}, {"max_steps": 7}, {"precision": "bf16-mixed"}):
        trainer = replace(settings.trainer, **places, **learns)
        other = replace(settings, trainer=trainer, run_dir="y", draw=3)
        assert folder.inspect(other).changes == tuple(f"trainer.{key}" for key in learns)


def test_a_finished_stage_hands_on_its_best_checkpoint(settings, tmp_path):
    folder = RunFolder(tmp_path)
    _save_last(folder, settings)
    assert folder.final_checkpoint == folder.last_checkpoint
    (tmp_path / "checkpoints" / "best.ckpt").write_bytes(b"")
    assert folder.final_checkpoint.name == "best.ckpt"


def test_a_failed_write_leaves_the_old_file(settings, tmp_path):
    folder = RunFolder(tmp_path / "run")
    tables = {"per_category.csv": "a,b\n"}
    folder.write_results({"pq": 0.5, "num_images": 3}, settings=settings, tables=tables)
    with pytest.raises(TypeError):
        folder.write_results({"pq": object()}, settings=settings)
    assert json.loads((folder.path / "metrics.json").read_text()) == folder.read_metrics()
    assert folder.read_metrics() == {"pq": 0.5, "num_images": 3}
    assert (folder.path / "per_category.csv").read_text() == "a,b\n"
    assert (folder.path / "DONE").read_text().strip() == settings.identity()
    assert folder.claim(settings.in_folder(tmp_path)).status == "finished"
    (folder.path / "DONE").write_text(hash_config(settings.to_plain()))  # of an earlier version
    assert folder.claim(settings).status == "finished"


def test_another_evaluation_does_not_enter_a_finished_folder(tmp_path):
    area, plain = (compose("evaluate", [f"run_dir={tmp_path}", *o]) for o in (["fusion=area"], []))
    assert RunFolder(tmp_path).claim(area).status == "new"
    RunFolder(tmp_path).write_results({"pq": 0.5}, settings=area)
    assert RunFolder(tmp_path).claim(area).status == "finished"
    with refused(f"{tmp_path} holds a run with another setting"):
        RunFolder(tmp_path).claim(plain)


@pytest.mark.parametrize(
    ("overrides", "is_same"),
    [
        (["run_dir=elsewhere", "trainer=cpu", "trainer.devices=4", "logger=wandb"], True),
        (["data.num_workers=7", "trainer.enable_progress_bar=false"], True),
        (["optimizer.lr=0.5"], False),
        (["data.root=elsewhere"], False),
        (["trainer.limit_val_batches=3"], False),
        (["callbacks.best=null"], False),
    ],
    ids=str,
)
def test_identity_knows_the_settings_but_not_the_place(settings, overrides, is_same):
    other = compose("train", ["experiment=toy", "run_dir=x", *overrides])
    assert (other.identity() == settings.identity()) == is_same


@pytest.mark.parametrize("columns", [20, 200])
def test_table_on_a_console_of_any_width(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", f"{columns}")
    group = GroupQuality(pq=0.5, sq=0.75, rq=0.6, num_categories=4)
    nothing = GroupQuality(pq=0.0, sq=0.0, rq=0.0, num_categories=0)
    groups = {"all": group, "things": group, "stuff": nothing}
    print_table(groups, {"num_images": 7, "ap_box": 0.123})
    assert {"50.0", "12.3"} <= set(capsys.readouterr().out.split())
