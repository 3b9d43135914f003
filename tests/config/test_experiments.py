"""Every configuration in conf/ composes, keeps to its own keys, and builds."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from refine.assembly import build_pipeline
from refine.categories import Category, CategoryTable
from refine.config import compose
from refine.config.instantiate import build, build_trainer, to_options, to_plain
from refine.config.locate import conf_dir
from refine.options import (
    DataOptions,
    FusionOptions,
    ModelOptions,
    OptimizerOptions,
    ScheduleOptions,
)

EXPERIMENTS = sorted(p.stem for p in (conf_dir() / "experiment").glob("*.yaml"))
DATA = sorted(p.stem for p in (conf_dir() / "data").glob("*.yaml"))
CATEGORIES = CategoryTable(
    [Category(dataset_id=k, name=f"c{k}", is_thing=k < 4, color=(k, k, k)) for k in range(1, 7)]
)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_gives_valid_options(experiment):
    cfg = compose("train", [f"experiment={experiment}"])
    for section, options in (
        ("data", DataOptions),
        ("model", ModelOptions),
        ("fusion", FusionOptions),
        ("optimizer", OptimizerOptions),
        ("schedule", ScheduleOptions),
    ):
        assert isinstance(to_options(cfg[section], options), options)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("data", DATA)
def test_data_keys_belong_to_the_data_group(experiment, data):
    """An experiment may choose a dataset but sets none of its keys: data=toy means toy sizes."""
    with_experiment = compose("train", [f"experiment={experiment}", f"data={data}"])
    alone = compose("train", [f"data={data}"])
    assert to_plain(with_experiment.data) == to_plain(alone.data)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_network_of_an_experiment_is_built(experiment):
    cfg = compose("train", [f"experiment={experiment}"])
    with torch.device("meta"):
        pipeline = build_pipeline(
            to_options(cfg.model, ModelOptions),
            to_options(cfg.data, DataOptions),
            to_options(cfg.fusion, FusionOptions),
            categories=CATEGORIES,
        )
    assert sum(p.numel() for p in pipeline.parameters()) > 1_000_000


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_opens_with_its_command(experiment):
    lines = (conf_dir() / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith(f"# python -m refine.train experiment={experiment}")


@pytest.mark.parametrize("debug", sorted(p.stem for p in (conf_dir() / "debug").glob("*.yaml")))
def test_debug_settings_compose(debug):
    assert compose("train", ["experiment=toy", f"debug={debug}"]).trainer.max_steps <= 100


@pytest.mark.parametrize("name", ["default", "cpu", "auto"])
def test_trainer_is_built(name):
    cfg = compose("train", [f"trainer={name}", "trainer.accelerator=cpu", "trainer.max_steps=3"])
    assert build_trainer(cfg.trainer, callbacks=[], loggers=[]).max_steps == 3


def test_callbacks_and_loggers_are_built(tmp_path):
    overrides = ["callbacks=default", "logger=csv"]
    cfg = compose("train", overrides)
    OmegaConf.update(cfg, "callbacks.best.dirpath", str(tmp_path))
    OmegaConf.update(cfg, "callbacks.last.dirpath", str(tmp_path))
    OmegaConf.update(cfg, "logger.csv.save_dir", str(tmp_path))
    names = [type(build(node)).__name__ for node in (*cfg.callbacks.values(), *cfg.logger.values())]
    assert names == [
        "ModelCheckpoint", "LastCheckpoint", "LearningRateMonitor", "Progress", "CSVLogger",
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "score"])
def test_command_composes(command):
    assert OmegaConf.is_config(compose(command))


def test_conf_is_found_outside_the_checkout(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert conf_dir().is_absolute()
    assert Path(conf_dir(), "train.yaml").is_file()
