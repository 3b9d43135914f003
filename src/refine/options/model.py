"""The network."""

from dataclasses import dataclass, field

from refine.options.checks import check, check_choice, check_fractions, check_positive
from refine.options.ibpp import IBPPOptions

BACKBONES = ("r18", "r50", "r101", "x101_32x8d", "x101_64x4d")
ANCHOR_GRIDS = ("rounded", "exact")
DETECTION_RULES = ("proper", "detectron2")
NORMS = ("gn", "frozen_bn", "bn", "sync_bn")


@dataclass(kw_only=True)
class BackboneOptions:
    """ResNet or ResNeXt with a feature pyramid.

    Attributes:
        name: ``r18``, ``r50``, ``r101``, ``x101_32x8d`` or ``x101_64x4d``.
        norm: ``gn`` (32 groups), ``frozen_bn`` (statistics and affine fixed), ``bn`` (statistics of
            the images on one device) or ``sync_bn`` (of those on all).
        fpn_channels: Width of P2 to P6.
        frozen_stages: Stages that never change from the stem on: 0 none, 1 stem, 2 stem and layer1
            (detectron2's FREEZE_AT 2). Only sensible with pretrained weights.
        stride_in_1x1: Blocks that shrink the image do so in their first 1x1 convolution (MSRA's and
            most of Detectron's weights), not in the 3x3.
        dcn_stages: Layers (1 to 4) whose blocks have a deformable second convolution.
        dcn_modulated: With a factor for each tap ("v2").
        dcn_groups: Groups of channels with offsets of their own.
        activation_checkpointing: Keep only the input of each block and compute the block again in
            the backward pass: less memory, about a third more time, the same gradients.
    """

    name: str = "r50"
    norm: str = "frozen_bn"
    fpn_channels: int = 256
    frozen_stages: int = 2
    stride_in_1x1: bool = False
    dcn_stages: list[int] = field(default_factory=list)
    dcn_modulated: bool = False
    dcn_groups: int = 1
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        check_choice("backbone.name", self.name, BACKBONES)
        check_choice("backbone.norm", self.norm, NORMS)
        check(0 <= self.frozen_stages <= 5, "frozen_stages", self.frozen_stages, "0 to 5")
        width = self.fpn_channels
        check(width > 0 and width % 32 == 0, "fpn_channels", width, "a multiple of 32")
        moves = self.stride_in_1x1
        check(not moves or self.name != "r18", "stride_in_1x1", moves, "false: r18 has none")
        check({*self.dcn_stages} <= {1, 2, 3, 4}, "dcn_stages", self.dcn_stages, "layers 1 to 4")
        groups = self.dcn_groups
        check(groups > 0 and 64 % groups == 0, "dcn_groups", groups, "a divisor of 64")
        check(
            self.norm not in ("bn", "sync_bn") or not self.activation_checkpointing,
            "activation_checkpointing",
            True,
            "backbone.norm=gn or frozen_bn, because the statistics of the others would move twice",
        )


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
        anchor_grid: ``rounded``: torchvision's anchors, corners rounded to whole pixels, a level
            spaced by the image's size over its cells; ``exact``: neither (detectron2's).
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
    anchor_grid: str = "rounded"

    def __post_init__(self) -> None:
        check_choice("proposals.anchor_grid", self.anchor_grid, ANCHOR_GRIDS)
        check_fractions(self, "iou_positive", "iou_negative", "positive_fraction", "nms_thresh")
        check_positive(self, "samples_per_image", "pre_nms_train", "pre_nms_eval")
        check_positive(self, "post_nms_train", "post_nms_eval")


@dataclass(kw_only=True)
class RoIOptions:
    """Box and mask heads.

    Attributes:
        samples_per_image: Proposals sampled for the losses.
        positive_fraction: At most this share of them positive.
        iou_thresh: Proposals at or above this IoU with an instance are positive (plain head).
        cascade: Box stages one after the other with rising IoU and class-agnostic regression
            (Cascade R-CNN): as many as IBPP iterations, or all of them without IBPP.
        cascade_iou_thresh: ``iou_thresh`` of each stage.
        scale_gradient: The gradient of each of S stages into the pyramid is divided by S
            (detectron2, together with stage weights of 1).
        sampling_ratio: RoIAlign samples a bin and axis; 0 adapts to the box (detectron2).
        canonical_size_px: Boxes of this size are pooled from P4 (FPN, eq. 1).
        box_fc_channels: Width of the two fully connected layers of the box head.
        mask_channels: Width of the mask head.
        mask_convs: Its 3x3 convolutions.
        mask_norm: ``none`` or ``gn``.
        mask_class_agnostic: One mask for all thing categories instead of one each.
        score_thresh: Detections below this score are dropped.
        nms_thresh: IoU of the class-wise NMS.
        max_detections: Detections kept an image.
        detection_rules: ``proper``: detections of at least ``score_thresh`` whose box has an area
            compete for ``max_detections`` places; ``detectron2``: those above ``score_thresh`` do,
            and boxes without area go only afterwards.
    """

    samples_per_image: int = 512
    positive_fraction: float = 0.25
    iou_thresh: float = 0.5
    cascade: bool = False
    cascade_iou_thresh: list[float] = field(default_factory=lambda: [0.5, 0.6, 0.7])
    scale_gradient: bool = False
    sampling_ratio: int = 0
    canonical_size_px: int = 224
    box_fc_channels: int = 1024
    mask_channels: int = 256
    mask_convs: int = 4
    mask_norm: str = "none"
    mask_class_agnostic: bool = False
    score_thresh: float = 0.05
    nms_thresh: float = 0.5
    max_detections: int = 100
    detection_rules: str = "proper"

    def __post_init__(self) -> None:
        check_choice("roi.detection_rules", self.detection_rules, DETECTION_RULES)
        check_fractions(self, "positive_fraction", "iou_thresh", "score_thresh", "nms_thresh")
        stages = self.cascade_iou_thresh
        ok = bool(stages) and all(0 <= u <= 1 for u in stages)
        check(ok, "roi.cascade_iou_thresh", stages, "fractions in [0, 1], one a stage")
        check_positive(self, "samples_per_image", "canonical_size_px", "box_fc_channels")
        check_positive(self, "mask_channels", "max_detections")
        check(self.mask_convs >= 0, "mask_convs", self.mask_convs, "0 or more")
        check(self.sampling_ratio >= 0, "sampling_ratio", self.sampling_ratio, "0 or more")
        check_choice("mask_norm", self.mask_norm, ("none", "gn"))


@dataclass(kw_only=True)
class SemanticOptions:
    """Panoptic-FPN's semantic head.

    Attributes:
        channels: Width of the stride-4 feature F_sem (detectron2: 128; IBPP needs the FPN's).
        embedding: A last 1x1 convolution and ReLU before F_sem is handed out (the authors' earlier
            code; off, because it cost 3 PQ on toy scenes, docs/results.md).
        merge_things: All things share one logit, as in detectron2's head; the semantic map then
            tells things from stuff, but not from each other. Without IBPP only, which reads them.
        dcn: Deformable 3x3 convolutions (the authors' earlier code, in their largest model).
    """

    channels: int = 128
    embedding: bool = False
    merge_things: bool = False
    dcn: bool = False

    def __post_init__(self) -> None:
        width = self.channels
        check(width > 0 and width % 32 == 0, "semantic.channels", width, "a multiple of 32")


@dataclass(kw_only=True)
class LossWeights:
    """Weights of the losses in the total; all losses are means over their samples.

    Attributes:
        rpn: Both losses of the proposal network.
        box: Classification and box regression.
        mask: Mask heads.
        semantic: Semantic heads (lambda_sem; detectron2's 0.5).
        roi_stages: Further weight of each box stage and mask head; null: 1, 1/2, 1/4, ... (HTC).
        semantic_iterations: Further weight of the semantic loss of iterations 0 to T; null:
            1 / (T + 1) but 1 for the last, whose map is used.
    """

    rpn: float = 1.0
    box: float = 1.0
    mask: float = 1.0
    semantic: float = 0.5
    roi_stages: list[float] | None = None
    semantic_iterations: list[float] | None = None


@dataclass(kw_only=True)
class ModelOptions:
    """The network.

    Attributes:
        backbone: ResNet and FPN.
        proposals: Region proposal network.
        roi: Box and mask heads.
        semantic: Semantic head.
        ibpp: Iterations between mask and semantic heads.
        loss_weights: Weights of the losses.
        channels_last: Memory format of the dense part; faster convolutions, same values up to
            rounding.
    """

    backbone: BackboneOptions = field(default_factory=BackboneOptions)
    proposals: ProposalOptions = field(default_factory=ProposalOptions)
    roi: RoIOptions = field(default_factory=RoIOptions)
    semantic: SemanticOptions = field(default_factory=SemanticOptions)
    ibpp: IBPPOptions = field(default_factory=IBPPOptions)
    loss_weights: LossWeights = field(default_factory=LossWeights)
    channels_last: bool = True

    def __post_init__(self) -> None:
        self._check_cascade()
        self._check_widths()
        weights, count = self.loss_weights, self.ibpp.num_iterations
        _check_length(
            "loss_weights.roi_stages", weights.roi_stages, max(self.num_box_stages, count)
        )
        _check_length("loss_weights.semantic_iterations", weights.semantic_iterations, count + 1)

    @property
    def num_box_stages(self) -> int:
        """S: 1 for the plain head."""
        if not self.roi.cascade:
            return 1
        return self.ibpp.num_iterations or len(self.roi.cascade_iou_thresh)

    @property
    def box_iou_thresh(self) -> list[float]:
        """Of each box stage."""
        if not self.roi.cascade:
            return [self.roi.iou_thresh]
        return self.roi.cascade_iou_thresh[: self.num_box_stages]

    def _check_cascade(self) -> None:
        given, needed = len(self.roi.cascade_iou_thresh), self.num_box_stages
        check(
            not self.roi.cascade or given >= needed,
            "roi.cascade_iou_thresh",
            self.roi.cascade_iou_thresh,
            f"one IoU for each of ibpp.num_iterations={needed} box stages",
        )

    def _check_widths(self) -> None:
        ibpp, width = self.ibpp, self.backbone.fpn_channels
        merged = self.semantic.merge_things
        check(
            not (merged and ibpp.num_iterations),
            "semantic.merge_things",
            merged,
            "false with ibpp.num_iterations above 0: IBPP tells things apart by their logits",
        )
        is_summed = ibpp.num_iterations and (ibpp.features_cross or ibpp.project_to_box)
        check(
            not is_summed or self.semantic.channels == width,
            "semantic.channels",
            self.semantic.channels,
            f"backbone.fpn_channels={width}, because IBPP adds the two features (eq. 4)",
        )


def _check_length(name: str, values: list[float] | None, expected: int) -> None:
    ok = values is None or len(values) == expected
    check(ok, name, values, f"{expected} weights (ibpp.num_iterations, roi.cascade), or null")
