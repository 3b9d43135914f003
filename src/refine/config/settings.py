"""The configuration of each command as typed settings; ``conf/`` holds the values."""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self, get_type_hints

from omegaconf import OmegaConf

from refine.config.flatten import flatten
from refine.config.idle import find_idle
from refine.config.instantiate import to_options
from refine.config.locate import conf_dir
from refine.options import (
    CategoryOptions,
    DataOptions,
    FusionOptions,
    ModelOptions,
    OcclusionStageOptions,
    OptimizerOptions,
    OverlayOptions,
    RankingStageOptions,
    ScheduleOptions,
    TrainerOptions,
    to_plain,
)
from refine.options.checks import check, check_choice, knob

_LOGGER = logging.getLogger(__name__)
_TRAINER_PLACES = ["accelerator", "devices", "num_nodes", "strategy", "enable_progress_bar"]
_PLACES = ["run_dir", "out", "logger", "callbacks.wandb", "data.num_workers"]
_PLACES += [f"trainer.{name}" for name in _TRAINER_PLACES]


def is_place(key: str) -> bool:
    """Whether a setting, by dotted key, says where and how a run takes place, not what it does."""
    return key == "trainer" or any(f"{key}.".startswith(f"{place}.") for place in _PLACES)


@dataclass(kw_only=True)
class Sections:
    """The three sections that a checkpoint brings along."""

    data: DataOptions
    model: ModelOptions
    fusion: FusionOptions

    def __post_init__(self) -> None:
        self.data.image.require_visible()

    @classmethod
    def read(cls, recorded: Mapping[str, Any]) -> "Sections":
        """The sections of a recorded configuration; a ``RefineError`` if one no longer fits."""
        hints = get_type_hints(Sections).items()
        return Sections(**{name: to_options(recorded[name], options) for name, options in hints})


@dataclass(kw_only=True)
class Settings:
    """Settings of a command."""

    def to_plain(self) -> dict[str, Any]:
        """Plain containers, as ``config.yaml``, checkpoints and ``DONE`` record them."""
        ignored = {item.name for item in fields(self) if item.metadata.get("omegaconf_ignore")}
        return {key: value for key, value in to_plain(self).items() if key not in ignored}

    def identity(self) -> str:
        """SHA-256 of the settings, wherever the run takes place; ``DONE`` and job folders hold it.

        What a checkpoint's own settings are overridden with (``named``) belongs to it.
        """
        folder = getattr(self, "run_dir", None)
        values = {
            key: value.removeprefix(f"{folder}/") if isinstance(value, str) else value
            for key, value in flatten(self.to_plain()).items()
            if not is_place(key)
        }
        sections = tuple(get_type_hints(Sections))
        named = [k for k in getattr(self, "named", ()) if k.split(".")[0] in sections]
        values["named"] = sorted(k for k in named if not is_place(k))
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(kw_only=True)
class RunSettings(Settings):
    """Settings that training and evaluation have in common; ``conf/train.yaml`` explains each."""

    trainer: TrainerOptions
    seed: int
    compute_ap: bool
    draw: int
    run_dir: str
    plugins: list[str] = knob([], rare=True)

    def __post_init__(self) -> None:
        check(0 <= self.seed < 2**32, "seed", self.seed, "a number in 0 .. 4294967295")
        check(self.draw >= 0, "draw", self.draw, "0 or more")


@dataclass(kw_only=True)
class TrainSettings(RunSettings, Sections):
    """Settings of ``refine.train``; ``conf/train.yaml`` explains each.

    Attributes:
        given: ``KEY=VALUE`` of what the command line names; not recorded.
    """

    optimizer: OptimizerOptions
    schedule: ScheduleOptions
    occlusion: OcclusionStageOptions
    ranking: RankingStageOptions
    callbacks: dict[str, Any] | None = None
    logger: dict[str, Any] | None = None
    stage: str
    all_stages: list[str]
    detector_ckpt_path: str | None
    weights: str
    pretrained: str
    ckpt_path: str | None
    choose_from_data: bool = knob(False, rare=True)
    validation_losses: bool = knob(False, rare=True)
    given: list[str] = field(default_factory=list, metadata={"omegaconf_ignore": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        Sections.__post_init__(self)
        stages = ("panoptic", "occlusion", "ranking")
        check_choice("stage", self.stage, (*stages, "all"))
        check(bool(self.all_stages), "all_stages", self.all_stages, "stages to train")
        for stage in self.all_stages:
            check_choice("all_stages", stage, stages)

    def in_folder(self, run_dir: Path) -> Self:
        """The same settings for another folder, for callbacks and loggers, too."""
        old, new = self.run_dir, str(run_dir)

        def move(node: Any) -> Any:
            if isinstance(node, dict):
                return {key: move(value) for key, value in node.items()}
            if isinstance(node, str) and (node == old or node.startswith(f"{old}/")):
                return new + node.removeprefix(old)
            return node

        return replace(self, run_dir=new, callbacks=move(self.callbacks), logger=move(self.logger))


@dataclass(kw_only=True)
class CheckpointSettings(Settings):
    """Settings of a command that runs a checkpoint.

    Attributes:
        data, model, fusion: Composed sections, plain containers; see :meth:`choose_sections`.
        named: Keys and groups that the command line names; not recorded.
    """

    data: dict[str, Any]
    model: dict[str, Any]
    fusion: dict[str, Any]
    named: list[str] = field(default_factory=list, metadata={"omegaconf_ignore": True})

    def to_plain(self) -> dict[str, Any]:
        """See :meth:`Settings.to_plain`."""
        sections = get_type_hints(Sections).items()
        read = {k: to_plain(to_options(getattr(self, k), options)) for k, options in sections}
        return super().to_plain() | read

    def choose_sections(self, recorded: Mapping[str, Any]) -> Sections:
        """The sections to use with a checkpoint of this recorded configuration.

        A section whose choice the command line names (``data=toy``) is the composed one; any other
        is the checkpoint's, changed by the dotted overrides (``fusion.merge.score_thresh=0.6``).
        Overrides that change nothing are named in a warning.

        Raises:
            RefineError: The checkpoint's configuration no longer fits the options.
        """
        chosen: dict[str, Any] = {}
        for name, options in get_type_hints(Sections).items():
            composed = getattr(self, name)
            base = composed if name in self.named else recorded[name]
            keys = [k for k in self.named if k.startswith(f"{name}.")]
            given = OmegaConf.create({name: composed})
            changes = {k.removeprefix(f"{name}."): OmegaConf.select(given, k) for k in keys}
            chosen[name] = to_options(base, options, changes=changes)
        for line in find_idle(self.named, chosen["fusion"], chosen["model"]):
            _LOGGER.warning(line)
        return Sections(**chosen)


@dataclass(kw_only=True)
class EvaluateSettings(RunSettings, CheckpointSettings):
    """Settings of ``refine.evaluate``; ``conf/evaluate.yaml`` explains each."""

    ckpt_path: str | None
    occlusion_ckpts: dict[str, str] | None
    ranking_ckpts: dict[str, str] | None
    predictions: str | None
    baseline_predictions: str | None
    from_baseline: bool
    save_predictions: str | None
    predictions_form: str


@dataclass(kw_only=True)
class PredictSettings(CheckpointSettings):
    """Settings of ``refine.predict``; ``conf/predict.yaml`` explains each."""

    ckpt_path: str
    source: str
    frame_step: int
    ids_from: str | None
    out: str
    device: str
    fast: bool
    batch_size: int
    num_workers: int
    labels: bool
    overlay: OverlayOptions | None
    rle: bool
    submission: str | None
    plugins: list[str] = knob([], rare=True)

    def __post_init__(self) -> None:
        check(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        check(self.frame_step >= 1, "frame_step", self.frame_step, "1 or more")
        check(0 <= self.num_workers <= 64, "num_workers", self.num_workers, "a number in 0 .. 64")


@dataclass(kw_only=True)
class FuseSettings(Settings):
    """Settings of ``refine.fuse``; ``conf/fuse.yaml`` explains each."""

    instances: str
    semantic: str
    gt_json: str | None
    gt_dir: str | None
    images_json: str | None
    categories_json: str | None
    stuff_area_limit_px: int
    fusion: FusionOptions
    out: str
    num_workers: int
    plugins: list[str] = knob([], rare=True)

    def __post_init__(self) -> None:
        check(0 <= self.num_workers <= 64, "num_workers", self.num_workers, "a number in 0 .. 64")
        limit = self.stuff_area_limit_px
        check(limit >= 0, "stuff_area_limit_px", limit, "0 or more")


@dataclass(kw_only=True)
class ScoreSettings(Settings):
    """Settings of ``refine.score``; ``conf/score.yaml`` explains each."""

    gt_json: str
    pred_json: str
    gt_dir: str | None
    pred_dir: str | None
    num_workers: int
    categories: CategoryOptions
    out: str | None


@dataclass(kw_only=True)
class ConvertSettings(Settings):
    """Settings of ``refine.convert``; ``conf/convert.yaml`` explains each."""

    source: str
    out: str
    format: str
    prefix: str | None
    pixel_mean: list[float] | None
    pixel_std: list[float] | None
    config: str | None


@dataclass(kw_only=True)
class ExportSettings(Settings):
    """Settings of ``refine.export``; ``conf/export.yaml`` explains each."""

    ckpt_path: str
    out: str
    format: str
    plugins: list[str] = knob([], rare=True)

    def __post_init__(self) -> None:
        check_choice("format", self.format, ("auto", "bundle", "torch", "onnx"))


@dataclass(kw_only=True)
class CheckSettings(Settings):
    """Settings of ``refine.check``; ``conf/check.yaml`` explains each."""

    data: DataOptions
    splits: list[str] | None
    pixels: bool
    json: str | None


@dataclass(kw_only=True)
class DownloadSettings(Settings):
    """Settings of ``refine.download``; ``conf/download.yaml`` explains each."""

    what: str
    root: str
    files: list[str] | None
    mirror: Any
    checksums: dict[str, str] | None
    attempts: int
    pause_s: float

    def __post_init__(self) -> None:
        for mirror in self.mirrors:
            is_address = re.fullmatch(r"https?://[^/\s]+\S*", str(mirror))
            check(bool(is_address), "mirror", mirror, "an address, http://... or https://...")
        for name, value in (self.checksums or {}).items():
            is_hash = re.fullmatch("md5:[0-9a-fA-F]{32}|sha256:[0-9a-fA-F]{64}", value)
            check(bool(is_hash), f"checksums.{name}", value, "md5:HEX or sha256:HEX")
        check(self.attempts >= 1, "attempts", self.attempts, "1 or more")
        check(0 <= self.pause_s <= 60, "pause_s", self.pause_s, "a number in 0 .. 60")

    @property
    def mirrors(self) -> list[str]:
        """Addresses of other servers, to be tried in turn."""
        given = [] if self.mirror is None else self.mirror
        return list(given) if isinstance(given, list | tuple) else [given]


@dataclass(kw_only=True)
class ConvertDatasetSettings(Settings):
    """Settings of ``refine.convert_dataset``; ``conf/convert_dataset.yaml`` explains each.

    The first ones belong to layouts (``conf/from``), which have only those that they read.
    """

    layout: str | None
    images: str = ""
    annotations: str | None = None
    instances: str | None = None
    semantic: str | None = None
    pngs: str | None = None
    table: str | None = None
    overlaps: str = "smaller"
    void: list[Any] = field(default_factory=list)
    root: str | None = None
    split: str
    out: str
    link: bool
    skip_bad: bool

    def __post_init__(self) -> None:
        layouts = sorted(path.stem for path in (conf_dir() / "from").glob("*.yaml"))
        check(self.layout is not None, "from", None, f"one of {', '.join(layouts)}")
        check_choice("overlaps", self.overlaps, ("smaller", "later", "earlier"))
        is_name = re.fullmatch(r"[\w-][\w.-]*", self.split)
        check(bool(is_name), "split", self.split, "a name of letters, digits, _ and -")


COMMANDS: dict[str, type[Settings]] = {
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
    "predict": PredictSettings,
    "fuse": FuseSettings,
    "score": ScoreSettings,
    "convert": ConvertSettings,
    "export": ExportSettings,
    "check": CheckSettings,
    "download": DownloadSettings,
    "convert_dataset": ConvertDatasetSettings,
}
