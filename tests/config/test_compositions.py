"""Every configuration in conf/ composes, keeps to its own keys, and builds."""

from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from make.runs import CATEGORIES
from refine.config import compose
from refine.config.flatten import flatten
from refine.config.instantiate import build_all, build_trainer, check_trainer, to_options
from refine.config.locate import conf_dir
from refine.config.settings import TrainSettings
from refine.options import FusionOptions, UnknownErasingOptions
from refine.runs.restore import build_pipeline
from refine.workflows.train_detector import choose_weights
from refine.workflows.train_stages import limit_validation

GROUPS = {
    f.name: f.type for f in fields(TrainSettings) if (conf_dir() / f.name).is_dir()
    and isinstance(f.type, type)
}  # fmt: skip


def _choices(group):
    return sorted(p.stem for p in (conf_dir() / group).glob("*.yaml"))


def _load(group, name):
    return OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{name}.yaml"))


@pytest.mark.parametrize("experiment", _choices("experiment"))
def test_experiment(experiment):
    """It opens with its command, sets no key of the data group, and its network can be built."""
    lines = (conf_dir() / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith(f"# python -m refine.train experiment={experiment}")
    data = _choices("data")[_choices("experiment").index(experiment) % len(_choices("data"))]
    settings = compose("train", [f"experiment={experiment}", f"data={data}"])
    assert "data" not in _load("experiment", experiment)
    if settings.data.toy is not None:  # generated scenes need no published weights
        assert choose_weights(settings) == "none"
    with torch.device("meta"):
        pipeline = build_pipeline(settings, categories=CATEGORIES)
    assert sum(p.numel() for p in pipeline.parameters()) > 1_000_000


def test_categories_are_chosen_on_the_command_line():
    given = ["keep=[person, potted plant]", "merge={house: [house, roof]}"]
    chosen = {"keep": ["person", "potted plant"], "merge": {"house": ["house", "roof"]}}
    train = compose("train", ["data=coco_142", *(f"data.categories.{o}" for o in given)])
    assert asdict(train.data.categories) == chosen | {"by": "supercategory"}
    score = compose("score", ["gt_json=a", "pred_json=b", *(f"categories.{o}" for o in given)])
    assert asdict(score.categories) == chosen | {"by": "category"}
    evaluate = compose("evaluate", ["ckpt_path=x", f"data.categories.{given[1]}"])
    sections = evaluate.choose_sections(compose("train", ["data=coco_142"]).to_plain())
    assert sections.data.categories.merge == chosen["merge"]
    assert len(sections.data.categories.keep) == 15


def test_weights():
    on_toy = ["experiment=r50_panoptic_fpn", "data=toy"]
    assert choose_weights(compose("train", on_toy[:1])) == "torchvision:IMAGENET1K_V1"
    assert choose_weights(compose("train", [*on_toy, "weights=some.pth"])) == "some.pth"


def test_a_trial_of_few_steps_validates_few_batches():
    plain = compose("train")
    assert limit_validation(plain) is plain
    trial = replace(plain, trainer=replace(plain.trainer, max_steps=2))
    assert limit_validation(trial).trainer.limit_val_batches == 2
    limited = replace(trial, trainer=replace(trial.trainer, limit_val_batches=1.0))
    assert limit_validation(limited) is limited


@pytest.mark.parametrize("sweep", _choices("sweep"))
def test_values_of_a_sweep_are_valid(sweep):
    command = (conf_dir() / "sweep" / f"{sweep}.yaml").read_text().splitlines()[1]
    assert f"-m sweep={sweep}" in command
    sweeper = _load("sweep", sweep)["hydra"]["sweeper"]
    values = {key: str(value).split(",") for key, value in sweeper.get("params", {}).items()}
    for key, names in values.items():
        if (conf_dir() / key).is_dir():
            assert set(names) <= set(_choices(key))
    rows = sweeper.get("rows") or {"": {key: names[-1] for key, names in values.items()}}
    for row in rows.values():
        own = [f"{key}={value}" for key, value in row.items()]
        compose("train" if "refine.train" in command else "evaluate", ["model=refine", *own])


def test_no_value_repeats_a_default():
    for group, options in GROUPS.items():
        defaults = flatten(asdict(options()))
        for name in _choices(group):
            content = _load(group, name)
            if content.pop("defaults") == ["schema", "_self_"]:
                same = {k for k, v in flatten(content).items() if defaults.get(k, ...) == v}
                assert not same, f"{group}/{name}.yaml repeats the default of {same}"


def test_a_choice_of_fusion_sets_the_order_and_nothing_else():
    """Tables 5 and 6 compare orders of overlapping instances, all else being equal."""
    for name in set(_choices("fusion")) - {"refine", "detectron2"}:
        content = _load("fusion", name)
        content.pop("defaults")
        fusion = to_options(content, FusionOptions)
        assert fusion == FusionOptions(relations=fusion.relations)
    refine, soe = (compose("evaluate", [f"fusion={name}"]).fusion for name in ("refine", "soe"))
    assert refine == soe | {"unknown_erasing": asdict(UnknownErasingOptions(mode="score"))}


def test_what_the_command_line_names_overrides_the_checkpoint():
    recorded = compose("train", ["experiment=toy", "fusion.merge.overlap_thresh=0.3"]).to_plain()
    dotted = ["fusion.merge.score_thresh=0.6", "data.image.eval_short_side_px=96"]
    sections = compose("evaluate", dotted).choose_sections(recorded)
    merge = sections.fusion.merge
    assert (merge.score_thresh, merge.overlap_thresh) == (0.6, 0.3)
    assert (sections.data.image.eval_short_side_px, sections.data.root) == (96, "data/toy_v2")
    assert asdict(sections.model) == recorded["model"]
    named = compose("evaluate", ["fusion=area", "fusion.unknown_erasing.mode=score", *dotted])
    fusion = named.choose_sections(recorded).fusion
    assert (fusion.relations.kind, fusion.unknown_erasing.mode) == ("area", "score")
    assert fusion.merge.overlap_thresh == 0.5  # whoever names a choice gets the choice
    assert "named" not in named.to_plain()


@pytest.mark.parametrize(
    ("idle", "read"),
    [
        ("fusion.unknown_erasing.score_thresh=0.6", "fusion.unknown_erasing.mode=score"),
        ("fusion.relations.sigma=1.0", "fusion.relations.kind=soft_occlusion"),
        ("fusion.relations.head=mine", "fusion.relations.kind=srm"),
        ("fusion.relations.shr_box_frac=0.5", "fusion.relations.kind=shr"),
        ("model.ibpp.canvas_score_thresh=0.2", "model.ibpp.num_iterations=2"),
    ],
)
def test_what_changes_nothing_is_said(idle, read, caplog):
    recorded = compose("train", ["experiment=toy"]).to_plain()
    compose("evaluate", [idle, read]).choose_sections(recorded)
    assert not caplog.records
    compose("evaluate", [idle]).choose_sections(recorded)
    (record,) = caplog.records
    key, (owner, value) = idle.split("=")[0], read.split("=")
    assert record.message.startswith(f"{key} changes nothing unless {owner} is ")
    assert value in record.message or owner == "model.ibpp.num_iterations"


def test_another_folder_moves_callbacks_and_loggers():
    settings = compose("train", ["run_dir=a/b"]).in_folder(Path("c"))
    assert settings.run_dir == settings.logger["csv"]["save_dir"] == "c"
    assert settings.callbacks["best"]["dirpath"] == "c/checkpoints"
    assert settings.callbacks["best"]["filename"] == "best"


@pytest.mark.parametrize("debug", _choices("debug"))
def test_trainer_callbacks_and_loggers_are_built(debug, tmp_path):
    settings = compose("train", [f"debug={debug}", f"run_dir={tmp_path}", "trainer=cpu"])
    trainer = build_trainer(settings.trainer, callbacks=[], loggers=[])
    assert 0 < trainer.max_steps <= 100
    built = [*build_all(settings.callbacks), *build_all(settings.logger)]
    assert [type(b).__name__ for b in built] == [
        "ModelCheckpoint", "LastCheckpoint", "LearningRateMonitor", "Progress", "CSVLogger",
    ]  # fmt: skip


def test_lightning_says_what_concerns_the_run_once_and_no_more(caplog, tmp_path):
    settings = compose("train", ["experiment=toy", f"run_dir={tmp_path}", "trainer=cpu"])
    caplog.set_level("INFO", logger="pytorch_lightning")
    check_trainer(settings.trainer)
    build_trainer(settings.trainer, callbacks=[], loggers=[])
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("GPU available: ")


def test_w_and_b_s_logger_and_callbacks_are_built_beside_the_others(tmp_path):
    overrides = ["experiment=toy", "logger=wandb", f"run_dir={tmp_path}", "logger.wandb.project=p"]
    settings = compose("train", overrides)
    assert {"best", "last", "wandb"} <= settings.callbacks.keys()
    loggers = {type(b).__name__: b for b in build_all(settings.logger)}
    assert "CSVLogger" in loggers
    wandb = next(logger for name, logger in loggers.items() if name != "CSVLogger")
    assert (wandb.name, wandb.save_dir) == ("p", str(tmp_path))
    assert "WandbMedia" in {type(b).__name__ for b in build_all(settings.callbacks)}
    node = _load("logger", "wandb")
    job = node["hydra"]["callbacks"]["wandb"]  # it has the logger's settings
    for key in ("project", "entity", "group", "tags", "mode", "checkpoints"):
        assert key in node["logger"]["wandb"]
        assert job[key] == f"${{logger.wandb.{key}}}"


def test_what_a_configuration_records():
    """``DONE`` is a hash of it: what is new or only uploads must not change it."""
    recorded = [
        compose("evaluate", ["run_dir=x", *more]).to_plain()
        for more in ([], ["upload=wandb"], ["trainer.overfit_batches=2"])
    ]
    assert recorded[0] == recorded[1]
    assert "overfit_batches" not in recorded[0]["trainer"]
    assert recorded[2]["trainer"]["overfit_batches"] == 2
