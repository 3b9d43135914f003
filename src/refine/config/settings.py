"""The configuration of each command as typed settings; ``conf/`` holds the values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from omegaconf import OmegaConf

from refine.config.instantiate import to_options
from refine.options import (
    DataOptions,
    FusionOptions,
    ModelOptions,
    OcclusionStageOptions,
    OptimizerOptions,
    RankingStageOptions,
    ScheduleOptions,
    TrainerOptions,
)


@dataclass(kw_only=True)
class Sections:
    """The three sections that a checkpoint brings along.

    Attributes:
        data: Dataset, image sizes and categories.
        model: Network.
        fusion: From the network's output to the panoptic map.
    """

    data: DataOptions
    model: ModelOptions
    fusion: FusionOptions

    @classmethod
    def read(cls, recorded: Mapping[str, Any]) -> "Sections":
        """The sections of a recorded configuration.

        Args:
            recorded: Plain containers with the keys ``data``, ``model`` and ``fusion``.

        Raises:
            RefineError: An unknown key, a wrong type, or a value outside its range.
        """
        return Sections(
            data=to_options(recorded["data"], DataOptions),
            model=to_options(recorded["model"], ModelOptions),
            fusion=to_options(recorded["fusion"], FusionOptions),
        )


@dataclass(kw_only=True)
class Settings:
    """Settings of a command."""

    def to_plain(self) -> dict[str, Any]:
        """Plain containers, as ``config.yaml``, checkpoints and ``DONE`` record them."""
        plain = asdict(self)
        for item in fields(self):
            if item.metadata.get("omegaconf_ignore"):
                del plain[item.name]
            elif item.type is TrainerOptions:
                plain[item.name] = getattr(self, item.name).to_plain()
        return plain


@dataclass(kw_only=True)
class RunSettings(Settings):
    """What training and evaluation have in common.

    Attributes:
        trainer: Settings of Lightning's trainer.
        seed: Seed of all random numbers.
        compute_ap: Whether the final evaluation computes box and mask AP, given outlines.
        draw: Number of images of the final evaluation that are drawn.
        run_dir: Folder that receives everything the run leaves.
    """

    trainer: TrainerOptions
    seed: int
    compute_ap: bool
    draw: int
    run_dir: str


@dataclass(kw_only=True)
class TrainSettings(RunSettings, Sections):
    """Settings of ``refine.train``; the comments in ``conf/train.yaml`` explain each.

    Attributes:
        optimizer: Optimiser of the detector.
        schedule: Learning rate of the detector.
        occlusion: Settings of ``stage=occlusion``.
        ranking: Settings of ``stage=ranking``.
        callbacks: Nodes with ``_target_`` by name; None leaves one out.
        logger: Nodes with ``_target_`` by name; None leaves one out.
        stage: ``panoptic``, ``occlusion``, ``ranking`` or ``all``.
        all_stages: Stages of ``stage=all``, in order.
        detector_ckpt_path: Checkpoint of the detector that heads are trained on.
        weights: Published weights of the backbone; ``auto`` is ``pretrained``, or none on
            generated scenes.
        pretrained: The experiment's own choice of weights.
        ckpt_path: Checkpoint to resume.
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
        data: Composed section, plain containers.
        model: Composed section, plain containers.
        fusion: Composed section, plain containers.
        named: Keys and groups that the command line names; not recorded.
    """

    data: dict[str, Any]
    model: dict[str, Any]
    fusion: dict[str, Any]
    named: list[str] = field(default_factory=list, metadata={"omegaconf_ignore": True})

    def choose_sections(self, recorded: Mapping[str, Any]) -> Sections:
        """The sections to use with a checkpoint.

        A section whose choice the command line names (``data=toy``; for the fusion also
        ``component=``) is the composed one; any other is the checkpoint's, changed by the dotted
        overrides (``fusion.merge.score_thresh=0.6``).

        Args:
            recorded: Configuration in the checkpoint.

        Raises:
            RefineError: The checkpoint's configuration no longer fits the options.
        """
        chosen = {}
        for section in fields(Sections):
            name, composed = (
                section.name,
                OmegaConf.create({section.name: getattr(self, section.name)}),
            )
            if name in self.named or (name == "fusion" and "component" in self.named):
                chosen[name] = getattr(self, name)
                continue
            node = OmegaConf.create({name: dict(recorded[name])})
            for key in self.named:
                if key.startswith(f"{name}."):
                    OmegaConf.update(node, key, OmegaConf.select(composed, key))
            chosen[name] = OmegaConf.to_container(node[name])
        return Sections.read(chosen)


@dataclass(kw_only=True)
class EvaluateSettings(RunSettings, CheckpointSettings):
    """Settings of ``refine.evaluate``; the comments in ``conf/evaluate.yaml`` explain each.

    Attributes:
        ckpt_path: Checkpoint to evaluate.
        occlusion_ckpts: Checkpoints of further occlusion heads by name.
        ranking_ckpts: Checkpoints of further ranking heads by name.
        predictions: Folder of cached predictions to evaluate instead.
        baseline_predictions: Folder of another network's cached predictions.
        from_baseline: Whether ``baseline_predictions`` are read instead of ``predictions``.
        save_predictions: Folder that receives the raw predictions.
        predictions_form: ``compact``, ``half`` or ``full``.
    """

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
    """Settings of ``refine.predict``.

    Attributes:
        ckpt_path: Checkpoint that predicts.
        source: An image, a folder, or a glob.
        out: Folder of the results.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        labels: Whether overlays show the names of categories.
    """

    ckpt_path: str
    source: str
    out: str
    device: str
    labels: bool


@dataclass(kw_only=True)
class ScoreSettings(Settings):
    """Settings of ``refine.score``.

    Attributes:
        gt_json: Panoptic annotations.
        pred_json: Panoptic results.
        gt_dir: Folder or zip of the annotations' PNGs; None is ``gt_json`` without ``.json``.
        pred_dir: Folder or zip of the results' PNGs; None is ``pred_json`` without ``.json``.
        num_workers: Number of threads.
        out: Folder of the results; None writes nothing.
    """

    gt_json: str
    pred_json: str
    gt_dir: str | None
    pred_dir: str | None
    num_workers: int
    out: str | None


@dataclass(kw_only=True)
class ConvertSettings(Settings):
    """Settings of ``refine.convert``.

    Attributes:
        source: Path, address, ``timm:NAME``, ``c2:NAME`` or ``torchvision:NAME``.
        out: File to write, ``.safetensors`` or ``.ckpt``.
        format: ``auto``, ``torchvision``, ``timm``, ``c2`` or ``detectron2``.
    """

    source: str
    out: str
    format: str


COMMANDS: dict[str, type[Settings]] = {
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
    "predict": PredictSettings,
    "score": ScoreSettings,
    "convert": ConvertSettings,
}
