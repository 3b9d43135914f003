"""The network."""

from dataclasses import dataclass, field

from refine.options.checks import (
    CHANNELS,
    DEPTH,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    Choices,
    Options,
    Range,
    knob,
    one_of,
)

BACKBONES = Choices("backbone", "r18", "r34", "r50", "r101", "r152", "x101_32x8d", "x101_64x4d")
BASIC_BACKBONES = ("r18", "r34")
"""Backbones whose blocks have no 1x1 convolution."""
NORMS = ("gn", "frozen_bn", "bn", "sync_bn")
_WIDTH = Range(lambda n: 0 < n <= 4096 and n % 32 == 0, "a multiple of 32 up to 4096")
_LAYERS = Range(lambda layers: {*layers} <= {1, 2, 3, 4}, "layers 1 to 4")
_GROUPS = Range(lambda value: value > 0 and 64 % value == 0, "a divisor of 64")
_MASK_ROIS = ("interleaved", "stage_input", "final")
_IOUS = Range(
    lambda ious: bool(ious) and all(map(FRACTION.holds, ious)), "fractions in [0, 1], one per stage"
)


@dataclass(kw_only=True)
class BackboneOptions(Options, section="model.backbone"):
    """ResNet or ResNeXt with a feature pyramid.

    Attributes:
        name: One of :data:`BACKBONES`, or one that :func:`refine.register_backbone` adds.
        norm: ``gn`` (32 groups), ``frozen_bn`` (all fixed), ``bn`` (statistics of the images on one
            device) or ``sync_bn`` (of those on all devices).
        fpn_channels: Channels of P2 to P6, a multiple of 32.
        frozen_stages: Number of stages (stem, layer1 to layer4) that keep their pretrained weights.
        stride_in_1x1: Whether blocks shrink the image in their 1x1 convolution (MSRA's weights).
        dcn_stages: Layers (1 to 4) whose blocks have a deformable second convolution.
        dcn_modulated: Whether deformable convolutions have a factor for each tap ("v2").
        dcn_groups: Groups of channels with offsets of their own, a divisor of 64.
        activation_checkpointing: Whether blocks are computed again in the backward pass: less
            memory, about a third more time, the same gradients.
    """

    name: str = knob("r50", BACKBONES.range)
    norm: str = knob("frozen_bn", one_of(NORMS))
    fpn_channels: int = knob(256, _WIDTH)
    frozen_stages: int = knob(2, Range(lambda value: 0 <= value <= 5, "0 to 5"))
    stride_in_1x1: bool = False
    dcn_stages: list[int] = knob([], _LAYERS)
    dcn_modulated: bool = False
    dcn_groups: int = knob(1, _GROUPS)
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        has_1x1 = self.name not in BASIC_BACKBONES
        expected = f"false: {self.name} has none"
        self.require(has_1x1 or not self.stride_in_1x1, "stride_in_1x1", expected)
        if self.name in BACKBONES.added:
            off = {"frozen_stages": 0, "dcn_stages": [], "activation_checkpointing": False}
            for name, value in {**off, "stride_in_1x1": False}.items():
                why = f"{str(value).lower()}, as {self.name} is no ResNet; its own code does that"
                self.require(getattr(self, name) == value, name, why)
        self.require(
            self.norm not in ("bn", "sync_bn") or not self.activation_checkpointing,
            "activation_checkpointing",
            "backbone.norm=gn or frozen_bn, because the statistics of the others would move twice",
        )


@dataclass(kw_only=True)
class ProposalOptions(Options, section="model.proposals"):
    """Region proposal network (algorithm of Faster R-CNN, numbers of detectron2).

    Attributes:
        iou_positive: Least IoU of a positive anchor.
        iou_negative: IoU below which an anchor is negative; those between are ignored.
        samples_per_image: Anchors sampled per image for the loss.
        positive_fraction: Maximum share of positive ones among them.
        pre_nms_train: Best anchors kept per level before NMS, in training.
        pre_nms_eval: Best anchors kept per level before NMS, in evaluation.
        post_nms_train: Maximum proposals per image after NMS, in training.
        post_nms_eval: Maximum proposals per image after NMS, in evaluation.
        nms_thresh: IoU of the NMS.
        anchor_grid: ``rounded``: torchvision's, corners rounded to whole pixels, stretched to the
            cells of the level; ``exact``: neither rounded nor stretched (detectron2's).
    """

    iou_positive: float = knob(0.7, FRACTION)
    iou_negative: float = knob(0.3, FRACTION)
    samples_per_image: int = knob(256, POSITIVE)
    positive_fraction: float = knob(0.5, FRACTION)
    pre_nms_train: int = knob(2000, POSITIVE)
    pre_nms_eval: int = knob(1000, POSITIVE)
    post_nms_train: int = knob(1000, POSITIVE)
    post_nms_eval: int = knob(1000, POSITIVE)
    nms_thresh: float = knob(0.7, FRACTION)
    anchor_grid: str = knob("rounded", one_of(("rounded", "exact")))


@dataclass(kw_only=True)
class RoIOptions(Options, section="model.roi"):
    """Box and mask heads.

    Attributes:
        samples_per_image: Proposals sampled per image for the losses.
        positive_fraction: Maximum share of positive ones among them.
        iou_thresh: Least IoU of a positive proposal with an instance (plain head).
        cascade: Whether class-agnostic box stages with rising IoU follow each other (Cascade
            R-CNN): as many as IBPP iterations, or all of them without IBPP.
        cascade_iou_thresh: ``iou_thresh`` of each stage.
        scale_gradient: Whether each of S stages sends 1/S of its gradient into the pyramid.
        sampling_ratio: RoIAlign's samples per bin and axis; 0 adapts to the box (detectron2).
        canonical_size_px: Size of the boxes that are pooled from P4 (FPN, eq. 1).
        box_fc_channels: Width of the two fully connected layers of the box head.
        mask_channels: Channels of the mask head.
        mask_convs: Number of 3x3 convolutions of the mask head.
        mask_norm: ``none`` or ``gn``.
        mask_class_agnostic: Whether one mask serves all thing categories.
        score_thresh: Least score of a detection.
        nms_thresh: IoU of the class-wise NMS.
        max_detections: Maximum detections per image.
        detection_rules: ``proper``: boxes with an area and at least ``score_thresh`` compete for
            ``max_detections``; ``detectron2``: those above it do, boxes without area go afterwards.
    """

    samples_per_image: int = knob(512, POSITIVE)
    positive_fraction: float = knob(0.25, FRACTION)
    iou_thresh: float = knob(0.5, FRACTION)
    cascade: bool = False
    cascade_iou_thresh: list[float] = knob([0.5, 0.6, 0.7], _IOUS)
    scale_gradient: bool = False
    sampling_ratio: int = knob(0, NOT_NEGATIVE)
    canonical_size_px: int = knob(224, POSITIVE)
    box_fc_channels: int = knob(1024, CHANNELS)
    mask_channels: int = knob(256, CHANNELS)
    mask_convs: int = knob(4, DEPTH)
    mask_norm: str = knob("none", one_of(("none", "gn")))
    mask_class_agnostic: bool = False
    score_thresh: float = knob(0.05, FRACTION)
    nms_thresh: float = knob(0.5, FRACTION)
    max_detections: int = knob(100, POSITIVE)
    detection_rules: str = knob("proper", one_of(("proper", "detectron2")))


@dataclass(kw_only=True)
class SemanticOptions(Options, section="model.semantic"):
    """Panoptic-FPN's semantic head.

    Attributes:
        channels: Channels of F_sem at stride 4, a multiple of 32; IBPP needs those of the FPN
            unless ``ibpp.join=embedding``.
        embedding: Whether F_sem ends in a 1x1 convolution and ReLU, before H_sem (HTC has it on
            the way to the instance branch only: ``ibpp.join``).
        merge_things: Whether all things share one logit, as in detectron2's head; the semantic map
            then does not tell things from each other. Not with IBPP, which reads them.
        dcn: Whether 3x3 convolutions are deformable (the authors' earlier code, largest model).
    """

    channels: int = knob(128, _WIDTH)
    embedding: bool = False
    merge_things: bool = False
    dcn: bool = False


@dataclass(kw_only=True)
class IBPPOptions(Options, section="model.ibpp"):
    """Iterations in which masks and semantic map read each other (eqs. 1 to 6).

    What does not cross is left out of a head's input; the heads, and the depth, stay. Defaults are
    equations as printed, and stay as they are: checkpoints without a key were trained with them.

    Attributes:
        num_iterations: T; 0 is the plain baseline (one mask head, one semantic predictor).
        direction: ``both``, ``sem_to_ins`` (mask heads read the semantic branch; semantic heads
            read their feature alone), ``ins_to_sem`` (the reverse) or ``none`` (the control).
        carry: What crosses: ``both``, ``features`` (F_sem is added to the mask heads' input;
            neither p_sem nor the canvas) or ``predictions`` (p_sem and the canvas, no F_sem).
        refine: ``plain``: P_sem^(t) is what head t predicts (eq. 6); ``residual``: head t adds to
            P_sem^(t-1), from a predictor that starts at zero.
        join: ``plain``: F_sem itself is added to the mask heads' input (eq. 4); ``embedding``: a
            1x1 convolution of it, which starts at zero.
        mask_start: Initial weights of the mask heads on p_sem: ``plain`` (He's) or ``zero``.
        detach: Crossings at which gradients stop: ``none`` (the paper), ``sem_to_ins``,
            ``ins_to_sem`` or ``both``; false and true are read as ``none`` and ``both``.
        project: Form of p_sem, ``logits`` or ``softmax``.
        project_to_box: Whether the box heads read F_sem and P_sem^(0), too.
        mask_rois: Boxes that mask head t is trained on: those stage t has just regressed
            (``interleaved``, as HTC), those it was given (``stage_input``), or for all heads those
            of the last stage, matched at ``roi.iou_thresh`` (``final``, as in inference).
        plain_mask_rois: The same for the one mask head of T = 0: ``interleaved`` are those of all
            stages, ``stage_input`` those of the first.
        mask_rois_add_truth: Whether true boxes are among them, too (HTC), scored as any box.
        canvas_false_positives: Maximum boxes per image and iteration that are on the canvas in
            training although they match nothing, or another category than their likeliest one.
        canvas_weight: Weight of masks: ``score`` (training: that of the true category) or ``none``.
        canvas_score_thresh: Least score of detections that are written to the canvas.
        canvas_reduce: ``max`` or ``mean`` where masks of one category overlap.
        canvas_warmup_steps: Steps over which the canvas fades in at the start of training.
        refine_convs: Number of 3x3 convolutions before the predictor of a refined semantic head.
        share_heads: Whether all iterations share one mask head and one refined semantic head.
        mask_info_flow: Whether mask heads also read the features of the earlier ones (HTC).
        mask_ensemble: Final masks: those of the ``last`` iteration, or their ``mean`` probability.
    """

    num_iterations: int = knob(0, DEPTH)
    direction: str = knob("both", one_of(("both", "sem_to_ins", "ins_to_sem", "none")))
    carry: str = knob("both", one_of(("both", "features", "predictions")))
    refine: str = knob("plain", one_of(("plain", "residual")))
    join: str = knob("plain", one_of(("plain", "embedding")))
    mask_start: str = knob("plain", one_of(("plain", "zero")))
    detach: str = knob("none", one_of(("none", "sem_to_ins", "ins_to_sem", "both")))
    project: str = knob("logits", one_of(("logits", "softmax")))
    project_to_box: bool = False
    mask_rois: str = knob("interleaved", one_of(_MASK_ROIS))
    plain_mask_rois: str = knob("stage_input", one_of(_MASK_ROIS))
    mask_rois_add_truth: bool = False
    canvas_false_positives: int = knob(0, NOT_NEGATIVE)
    canvas_weight: str = knob("score", one_of(("score", "none")))
    canvas_score_thresh: float = knob(0.05, FRACTION)
    canvas_reduce: str = knob("max", one_of(("max", "mean")))
    canvas_warmup_steps: int = knob(0, NOT_NEGATIVE)
    refine_convs: int = knob(1, DEPTH)
    share_heads: bool = False
    mask_info_flow: bool = False
    mask_ensemble: str = knob("last", one_of(("last", "mean")))

    def __post_init__(self) -> None:
        of_before = {"false": "none", "true": "both"}
        self.detach = of_before.get(str(self.detach).lower(), self.detach)
        super().__post_init__()
        self.require(
            not (self.direction == "none" and self.project_to_box),
            "project_to_box",
            "false with ibpp.direction=none: nothing crosses",
        )
        self.require(
            (self.direction, self.carry) != ("ins_to_sem", "features"),
            "direction",
            "another direction with ibpp.carry=features: only predictions cross from instances "
            "to semantics, so nothing would cross",
        )

    @property
    def features_cross(self) -> bool:
        """Whether F_sem is added to the mask heads' input."""
        return self.direction in ("both", "sem_to_ins") and self.carry != "predictions"

    @property
    def reads_feature(self) -> bool:
        """Whether any head of the instance branch reads F_sem."""
        return self.num_iterations > 0 and (self.features_cross or self.project_to_box)

    @property
    def semantics_cross(self) -> bool:
        """Whether p_sem is concatenated to the mask heads' input."""
        return self.direction in ("both", "sem_to_ins") and self.carry != "features"

    @property
    def canvas_crosses(self) -> bool:
        """Whether the canvas is concatenated to the refined semantic heads' input."""
        return self.direction in ("both", "ins_to_sem") and self.carry != "features"

    @property
    def trained_rois(self) -> str:
        """What ``mask_rois`` is for this number of iterations."""
        return self.mask_rois if self.num_iterations else self.plain_mask_rois


@dataclass(kw_only=True)
class LossWeights:
    """Weights of the losses in the total; all losses are means over their samples.

    Attributes:
        rpn: Weight of both losses of the proposal network.
        box: Weight of classification and box regression.
        mask: Weight of the mask heads.
        semantic: Weight of the semantic heads (lambda_sem; detectron2's 0.5).
        roi_stages: Further weight of each box stage and mask head; None: 1, 1/2, 1/4, ... (HTC).
        semantic_iterations: Further weight of the semantic loss of iterations 0 to T; None:
            1 / (T + 1) but 1 for the last, whose map is used.
    """

    rpn: float = 1.0
    box: float = 1.0
    mask: float = 1.0
    semantic: float = 0.5
    roi_stages: list[float] | None = None
    semantic_iterations: list[float] | None = None


@dataclass(kw_only=True)
class ModelOptions(Options, section="model"):
    """The network; sections have their own classes.

    Attributes:
        channels_last: Whether the dense part has that memory format; faster, equal up to rounding.
    """

    backbone: BackboneOptions = field(default_factory=BackboneOptions)
    proposals: ProposalOptions = field(default_factory=ProposalOptions)
    roi: RoIOptions = field(default_factory=RoIOptions)
    semantic: SemanticOptions = field(default_factory=SemanticOptions)
    ibpp: IBPPOptions = field(default_factory=IBPPOptions)
    loss_weights: LossWeights = field(default_factory=LossWeights)
    channels_last: bool = True

    def __post_init__(self) -> None:
        ibpp, count, stages = self.ibpp, self.ibpp.num_iterations, self.num_box_stages
        self.require(
            not self.roi.cascade or len(self.roi.cascade_iou_thresh) >= stages,
            "roi.cascade_iou_thresh",
            f"one IoU for each of ibpp.num_iterations={stages} box stages",
        )
        self.require(
            not (self.semantic.merge_things and count),
            "semantic.merge_things",
            "false with ibpp.num_iterations above 0: IBPP tells things apart by their logits",
        )
        is_summed, width = ibpp.reads_feature and ibpp.join == "plain", self.backbone.fpn_channels
        self.require(
            not is_summed or self.semantic.channels == width,
            "semantic.channels",
            f"backbone.fpn_channels={width}, because IBPP adds the two features (eq. 4)",
        )
        lengths = {"roi_stages": max(stages, count), "semantic_iterations": count + 1}
        for name, length in lengths.items():
            weights = getattr(self.loss_weights, name)
            expected = f"{length} weights (ibpp.num_iterations, roi.cascade), or null"
            fits = weights is None or len(weights) == length
            self.require(fits, f"loss_weights.{name}", expected)

    @property
    def num_box_stages(self) -> int:
        """S: 1 for the plain head."""
        of_cascade = self.ibpp.num_iterations or len(self.roi.cascade_iou_thresh)
        return of_cascade if self.roi.cascade else 1

    @property
    def box_iou_thresh(self) -> list[float]:
        """Least IoU of a positive RoI in each box stage."""
        of_stages = self.roi.cascade_iou_thresh if self.roi.cascade else [self.roi.iou_thresh]
        return of_stages[: self.num_box_stages]
