"""The W&B groups compose and build, beside metrics.csv."""

from omegaconf import OmegaConf

from refine.config import compose
from refine.config.instantiate import build
from refine.config.locate import conf_dir

SETTINGS = ("project", "entity", "group", "tags", "mode", "checkpoints")


def test_logger_and_callback_are_built_beside_the_others(tmp_path):
    overrides = ["experiment=toy", "logger=wandb", f"run_dir={tmp_path}", "logger.wandb.project=p"]
    cfg = compose("train", overrides)
    built = {name: build(node) for name, node in (*cfg.logger.items(), *cfg.callbacks.items())}
    logger = build(cfg.logger["wandb"])
    assert (logger.name, logger.save_dir) == ("p", str(tmp_path))
    assert type(build(cfg.logger["csv"])).__name__ == "CSVLogger"
    assert {"best", "last", "wandb"} <= set(built)
    assert type(build(cfg.callbacks["wandb"])).__name__ == "WandbMedia"


def test_the_job_s_callback_has_the_logger_s_settings():
    node = OmegaConf.load(conf_dir() / "logger" / "wandb.yaml")
    assert set(SETTINGS) <= set(node.logger.wandb)
    settings = OmegaConf.to_container(node.hydra.callbacks.wandb, resolve=False)
    assert {k: f"${{logger.wandb.{k}}}" for k in SETTINGS} == {k: settings[k] for k in SETTINGS}
