"""Every configuration in conf/ composes, keeps to its own keys, and builds."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from refine.categories import Category, CategoryTable
from refine.config import compose
from refine.config.instantiate import build, build_trainer, to_options, to_plain
from refine.config.locate import conf_dir
from refine.config.settings import Sections
from refine.options import (
    DataOptions,
    FusionOptions,
    ModelOptions,
    OptimizerOptions,
    ScheduleOptions,
)
from refine.runs.restore import build_pipeline
from refine.train import choose_weights, limit_validation

EXPERIMENTS = sorted(p.stem for p in (conf_dir() / "experiment").glob("*.yaml"))
SWEEPS = sorted(p.stem for p in (conf_dir() / "sweep").glob("*.yaml"))
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
    cfg = compose("train", [f"experiment={experiment}", "run_dir=x"])
    with torch.device("meta"):
        pipeline = build_pipeline(Sections.read(to_plain(cfg)), categories=CATEGORIES)
    assert sum(p.numel() for p in pipeline.parameters()) > 1_000_000


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_opens_with_its_command(experiment):
    lines = (conf_dir() / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith(f"# python -m refine.train experiment={experiment}")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_generated_scenes_need_no_published_weights(experiment):
    """Experiment on toy scenes: no download, so weights are chosen by the data."""
    cfg = compose("train", [f"experiment={experiment}", "data=toy"])
    assert choose_weights(cfg, to_options(cfg.data, DataOptions)) == "none"
    named = compose("train", [f"experiment={experiment}", "data=toy", "weights=some.pth"])
    assert choose_weights(named, to_options(named.data, DataOptions)) == "some.pth"


def test_photographs_get_the_experiments_weights():
    cfg = compose("train", ["experiment=r50_panoptic_fpn"])
    chosen = choose_weights(cfg, to_options(cfg.data, DataOptions))
    assert chosen == "torchvision:IMAGENET1K_V1"


@pytest.mark.parametrize(
    ("overrides", "limit"),
    [
        ([], None),
        (["trainer.max_steps=2"], 2),
        (["trainer.max_steps=2", "trainer.limit_val_batches=1.0"], 1.0),
    ],
    ids=str,
)
def test_a_trial_of_few_steps_validates_few_batches(overrides, limit):
    cfg = compose("train", ["experiment=r50_ibpp3", *overrides])
    limit_validation(cfg)
    assert cfg.trainer.limit_val_batches == limit


@pytest.mark.parametrize("debug", sorted(p.stem for p in (conf_dir() / "debug").glob("*.yaml")))
def test_debug_settings_compose(debug):
    assert compose("train", ["experiment=toy", f"debug={debug}"]).trainer.max_steps <= 100


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_value_of_a_sweep_is_valid(sweep):
    path = conf_dir() / "sweep" / f"{sweep}.yaml"
    command = path.read_text().splitlines()[1]
    assert f"-m sweep={sweep}" in command
    entry = "train" if "refine.train" in command else "evaluate"
    params = OmegaConf.to_container(OmegaConf.load(path))["hydra"]["sweeper"]["params"]
    assert params
    for key, values in params.items():
        for value in str(values).split(","):
            # the model of table 4, so that ibpp and cascade fit each other
            base = ["model=refine"] if entry == "train" else []
            cfg = compose(entry, [*base, f"{key}={value}"])
            to_options(cfg.model, ModelOptions)
            to_options(cfg.fusion, FusionOptions)


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
