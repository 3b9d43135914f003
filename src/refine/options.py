"""Every knob, once: its name, type, unit, default and range.

Hydra uses these dataclasses as the schema of ``conf/`` (a misspelt key or a wrong type is refused
while the configuration is composed) and the constructors take them, so a default stands here and
nowhere else. Defaults are the paper's, or those of the baseline that it builds on (detectron2's
Panoptic-FPN). Thresholds and probabilities are fractions in [0, 1]; lengths end in ``_px``.

Ranges are checked on construction: a value outside raises ``ValueError`` naming the knob.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


def _check(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name}={value!r}: expected {expected}")


def _check_fractions(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _check(0.0 <= value <= 1.0, name, value, "a fraction in [0, 1]")


def _check_positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _check(value > 0, name, value, "a number above 0")


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    _check(value in choices, name, value, "one of " + ", ".join(choices))


# --------------------------------------------------------------------------------------- data


@dataclass(kw_only=True)
class AnchorOptions:
    """RPN anchors; they belong to the data because they follow its image size.

    Attributes:
        sizes_px: One side length a level, P2 to P6.
        aspect_ratios: Height over width.
    """

    sizes_px: list[int] = field(default_factory=lambda: [32, 64, 128, 256, 512])
    aspect_ratios: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])

    def __post_init__(self) -> None:
        _check(len(self.sizes_px) == 5, "anchors.sizes_px", self.sizes_px, "five sizes, P2 to P6")


@dataclass(kw_only=True)
class ImageOptions:
    """Size and augmentation.

    Attributes:
        train_short_sides_px: Short side in training, drawn at random from this list.
        eval_short_side_px: Short side in evaluation and prediction.
        max_long_side_px: Upper limit of the long side; the short side shrinks to keep it.
        flip_prob: Probability of a horizontal flip in training.
        crop_px: ``[height, width]`` of a random crop after the resize in training, or None.
    """

    train_short_sides_px: list[int] = field(default_factory=lambda: [640, 672, 704, 736, 768, 800])
    eval_short_side_px: int = 800
    max_long_side_px: int = 1333
    flip_prob: float = 0.5
    crop_px: list[int] | None = None

    def __post_init__(self) -> None:
        _check_fractions(self, "flip_prob")
        _check_positive(self, "eval_short_side_px", "max_long_side_px")
        sides = self.train_short_sides_px
        _check(bool(sides) and min(sides) > 0, "train_short_sides_px", sides, "positive lengths")
        crop = self.crop_px
        ok = crop is None or (len(crop) == 2 and min(crop) > 0)
        _check(ok, "crop_px", crop, "[height, width] or null")


@dataclass(kw_only=True)
class ToyOptions:
    """The generated toy dataset (see :mod:`refine.data.synthetic`).

    Attributes:
        seed: Scenes are a function of (seed, split, index).
        num_train: Training scenes.
        num_val: Validation scenes.
        height_px: Height of a scene.
        width_px: Width of a scene.
    """

    seed: int = 0
    num_train: int = 400
    num_val: int = 100
    height_px: int = 128
    width_px: int = 192

    def __post_init__(self) -> None:
        _check_positive(self, "num_train", "num_val", "height_px", "width_px")


@dataclass(kw_only=True)
class DataOptions:
    """A COCO-panoptic dataset and how it is fed.

    Attributes:
        root: Folder that holds the images and ``annotations/`` (or the official zips).
        train_split: Name of the training split, as in ``annotations/panoptic_{split}.json``.
        val_split: Name of the evaluation split.
        train_image_ids: Train on these images only, or None for all.
        val_image_ids: Evaluate these images only, or None for all.
        batch_size: Images a training step, over all devices together.
        num_workers: Loader processes a device; 0 loads in the main process.
        cache_dir: Where compressed inner zips are spooled once; None is ``ROOT/.refine_cache``.
        image: Size and augmentation.
        anchors: RPN anchors.
        stuff_area_limit_px: Stuff segments with fewer original pixels become void.
        toy: Generate the dataset into ``root`` if it is not there (``data=toy``).
    """

    root: str = "data/coco"
    train_split: str = "train2017"
    val_split: str = "val2017"
    train_image_ids: list[int] | None = None
    val_image_ids: list[int] | None = None
    batch_size: int = 16
    num_workers: int = 4
    cache_dir: str | None = None
    image: ImageOptions = field(default_factory=ImageOptions)
    anchors: AnchorOptions = field(default_factory=AnchorOptions)
    stuff_area_limit_px: int = 4096
    toy: ToyOptions | None = None

    def __post_init__(self) -> None:
        _check_positive(self, "batch_size")
        _check(self.num_workers >= 0, "num_workers", self.num_workers, "0 or more")
        limit = self.stuff_area_limit_px
        _check(limit >= 0, "stuff_area_limit_px", limit, "0 or more")


# -------------------------------------------------------------------------------------- model

BACKBONES = ("r18", "r50", "r101", "x101_64x4d")
NORMS = ("gn", "frozen_bn", "sync_bn")


@dataclass(kw_only=True)
class BackboneOptions:
    """ResNet or ResNeXt with a feature pyramid.

    Attributes:
        name: ``r18``, ``r50``, ``r101`` or ``x101_64x4d``.
        norm: ``gn`` (32 groups), ``frozen_bn`` (statistics and affine fixed) or ``sync_bn``.
        fpn_channels: Width of P2 to P6.
        frozen_stages: Stages without gradients from the stem on: 0 none, 1 stem, 2 stem and
            layer1 (detectron2's FREEZE_AT 2). Only sensible with pretrained weights.
    """

    name: str = "r50"
    norm: str = "frozen_bn"
    fpn_channels: int = 256
    frozen_stages: int = 2

    def __post_init__(self) -> None:
        _check_choice("backbone.name", self.name, BACKBONES)
        _check_choice("backbone.norm", self.norm, NORMS)
        _check(0 <= self.frozen_stages <= 5, "frozen_stages", self.frozen_stages, "0 to 5")
        width = self.fpn_channels
        _check(width > 0 and width % 32 == 0, "fpn_channels", width, "a multiple of 32")


@dataclass(kw_only=True)
class ProposalOptions:
    """Region proposal network (algorithm of Faster R-CNN, numbers of detectron2).

    Attributes:
        iou_positive: Anchors at or above this IoU are positive.
        iou_negative: Anchors below this IoU are negative; those between are ignored.
        samples_per_image: Anchors sampled for the loss.
        positive_fraction: At most this share of them positive.
        pre_nms_train: Best anchors kept a level before NMS, in training.
        pre_nms_eval: The same in evaluation.
        post_nms_train: Proposals an image after NMS, in training.
        post_nms_eval: The same in evaluation.
        nms_thresh: IoU of the NMS.
    """

    iou_positive: float = 0.7
    iou_negative: float = 0.3
    samples_per_image: int = 256
    positive_fraction: float = 0.5
    pre_nms_train: int = 2000
    pre_nms_eval: int = 1000
    post_nms_train: int = 1000
    post_nms_eval: int = 1000
    nms_thresh: float = 0.7

    def __post_init__(self) -> None:
        _check_fractions(self, "iou_positive", "iou_negative", "positive_fraction", "nms_thresh")
        _check_positive(self, "samples_per_image", "pre_nms_train", "pre_nms_eval")
        _check_positive(self, "post_nms_train", "post_nms_eval")


@dataclass(kw_only=True)
class RoIOptions:
    """Box and mask heads.

    Attributes:
        samples_per_image: Proposals sampled for the losses.
        positive_fraction: At most this share of them positive.
        iou_thresh: Proposals at or above this IoU with an instance are positive.
        sampling_ratio: RoIAlign samples a bin and axis; 0 adapts to the box (detectron2).
        canonical_size_px: Boxes of this size are pooled from P4 (FPN, eq. 1).
        box_fc_channels: Width of the two fully connected layers of the box head.
        mask_channels: Width of the mask head.
        mask_convs: Its 3x3 convolutions.
        mask_norm: ``none`` or ``gn``.
        score_thresh: Detections below this score are dropped.
        nms_thresh: IoU of the class-wise NMS.
        max_detections: Detections kept an image.
    """

    samples_per_image: int = 512
    positive_fraction: float = 0.25
    iou_thresh: float = 0.5
    sampling_ratio: int = 0
    canonical_size_px: int = 224
    box_fc_channels: int = 1024
    mask_channels: int = 256
    mask_convs: int = 4
    mask_norm: str = "none"
    score_thresh: float = 0.05
    nms_thresh: float = 0.5
    max_detections: int = 100

    def __post_init__(self) -> None:
        _check_fractions(self, "positive_fraction", "iou_thresh", "score_thresh", "nms_thresh")
        _check_positive(self, "samples_per_image", "canonical_size_px", "box_fc_channels")
        _check_positive(self, "mask_channels", "max_detections")
        _check(self.mask_convs >= 0, "mask_convs", self.mask_convs, "0 or more")
        _check(self.sampling_ratio >= 0, "sampling_ratio", self.sampling_ratio, "0 or more")
        _check_choice("mask_norm", self.mask_norm, ("none", "gn"))


@dataclass(kw_only=True)
class SemanticOptions:
    """Panoptic-FPN's semantic head.

    Attributes:
        channels: Width of the stride-4 feature (detectron2: 128; IBPP needs the FPN's width).
    """

    channels: int = 128

    def __post_init__(self) -> None:
        width = self.channels
        _check(width > 0 and width % 32 == 0, "semantic.channels", width, "a multiple of 32")


@dataclass(kw_only=True)
class LossWeights:
    """Weights of the losses in the total; all losses are means over their samples.

    Attributes:
        rpn: Both losses of the proposal network.
        box: Classification and box regression.
        mask: Mask head.
        semantic: Semantic head (lambda_sem; detectron2's 0.5).
    """

    rpn: float = 1.0
    box: float = 1.0
    mask: float = 1.0
    semantic: float = 0.5


@dataclass(kw_only=True)
class ModelOptions:
    """The network.

    Attributes:
        backbone: ResNet and FPN.
        proposals: Region proposal network.
        roi: Box and mask heads.
        semantic: Semantic head.
        loss_weights: Weights of the losses.
        channels_last: Memory format of the dense part; faster convolutions, same values up to
            rounding.
    """

    backbone: BackboneOptions = field(default_factory=BackboneOptions)
    proposals: ProposalOptions = field(default_factory=ProposalOptions)
    roi: RoIOptions = field(default_factory=RoIOptions)
    semantic: SemanticOptions = field(default_factory=SemanticOptions)
    loss_weights: LossWeights = field(default_factory=LossWeights)
    channels_last: bool = True


# ------------------------------------------------------------------------------------- fusion


@dataclass(kw_only=True)
class MergeOptions:
    """Heuristic panoptic merge (Kirillov et al. 2019; algorithm in :mod:`refine.fusion.merge`).

    Attributes:
        score_thresh: Detections below this score are left out.
        overlap_thresh: A detection is left out if more than this share of its mask is taken.
        mask_thresh: A pixel belongs to a mask if its pasted probability reaches this value.
    """

    score_thresh: float = 0.5
    overlap_thresh: float = 0.5
    mask_thresh: float = 0.5

    def __post_init__(self) -> None:
        _check_fractions(self, "score_thresh", "overlap_thresh", "mask_thresh")


@dataclass(kw_only=True)
class FusionOptions:
    """What happens after the network.

    Attributes:
        merge: The panoptic merge.
    """

    merge: MergeOptions = field(default_factory=MergeOptions)


# ------------------------------------------------------------------------------- optimisation


@dataclass(kw_only=True)
class OptimizerOptions:
    """Optimiser.

    Attributes:
        name: ``sgd`` or ``adamw``.
        lr: Learning rate for the configured ``data.batch_size``.
        weight_decay: For every parameter but those of normalisation layers.
        norm_weight_decay: For the parameters of normalisation layers.
        momentum: SGD only.
    """

    name: str = "sgd"
    lr: float = 0.02
    weight_decay: float = 1e-4
    norm_weight_decay: float = 0.0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        _check_choice("optimizer.name", self.name, ("sgd", "adamw"))
        _check_positive(self, "lr")


@dataclass(kw_only=True)
class ScheduleOptions:
    """Learning rate over the steps of a run.

    Attributes:
        max_steps: Optimiser steps of the whole run; ``trainer.max_steps`` follows it.
        warmup_steps: Linear warm-up.
        warmup_factor: Learning rate at step 0 as a share of the full one.
        decay: ``multistep`` or ``cosine`` (to 0).
        milestones: Where multistep decays, as fractions of the run.
        gamma: Multistep's factor.
    """

    max_steps: int = 180_000
    warmup_steps: int = 1000
    warmup_factor: float = 0.001
    decay: str = "multistep"
    # 120k and 160k of 180k: detectron2's 2x schedule
    milestones: list[float] = field(default_factory=lambda: [2 / 3, 8 / 9])
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _check_choice("schedule.decay", self.decay, ("multistep", "cosine"))
        _check_fractions(self, "warmup_factor", "gamma")
        _check(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "0 or more")
