"""The network."""

from dataclasses import dataclass, field

from refine.options.checks import check, check_choice, check_fractions, check_positive

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
        check_choice("backbone.name", self.name, BACKBONES)
        check_choice("backbone.norm", self.norm, NORMS)
        check(0 <= self.frozen_stages <= 5, "frozen_stages", self.frozen_stages, "0 to 5")
        width = self.fpn_channels
        check(width > 0 and width % 32 == 0, "fpn_channels", width, "a multiple of 32")


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
        check_fractions(self, "iou_positive", "iou_negative", "positive_fraction", "nms_thresh")
        check_positive(self, "samples_per_image", "pre_nms_train", "pre_nms_eval")
        check_positive(self, "post_nms_train", "post_nms_eval")


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
        check_fractions(self, "positive_fraction", "iou_thresh", "score_thresh", "nms_thresh")
        check_positive(self, "samples_per_image", "canonical_size_px", "box_fc_channels")
        check_positive(self, "mask_channels", "max_detections")
        check(self.mask_convs >= 0, "mask_convs", self.mask_convs, "0 or more")
        check(self.sampling_ratio >= 0, "sampling_ratio", self.sampling_ratio, "0 or more")
        check_choice("mask_norm", self.mask_norm, ("none", "gn"))


@dataclass(kw_only=True)
class SemanticOptions:
    """Panoptic-FPN's semantic head.

    Attributes:
        channels: Width of the stride-4 feature (detectron2: 128; IBPP needs the FPN's width).
    """

    channels: int = 128

    def __post_init__(self) -> None:
        width = self.channels
        check(width > 0 and width % 32 == 0, "semantic.channels", width, "a multiple of 32")


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
