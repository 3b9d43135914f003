"""Panoptic-FPN (Kirillov et al. 2019): Mask R-CNN and a semantic head on one pyramid.

The baseline row of the paper (table 3, first line). Losses are those of detectron2 with two
differences, both of the mask head: targets are soft (see :mod:`refine.losses.mask`), and only the
label's mask is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from refine.losses.mask import mask_loss
from refine.losses.semantic import semantic_loss
from refine.models.backbone import Backbone, build_backbone
from refine.models.box_stage import BoxStage, Detections, RoISample, sample_rois
from refine.models.proposals import ProposalNetwork, ProposalOutput
from refine.modules.box_head import BOX_SIDE, BoxHead
from refine.modules.mask_head import MASK_INPUT_SIDE, MASK_SIDE, MaskHead
from refine.modules.semantic_head import SemanticPredictor, SemanticTrunk
from refine.ops.masks import roi_mask_targets
from refine.ops.outlines import decode_mask
from refine.ops.roi_align import pool_rois
from refine.options import AnchorOptions, ModelOptions
from refine.types import Batch, RawPrediction, TrainingTarget

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Of RGB pixels in 0..255 (torchvision's and timm's weights)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Dense:
    """What the dense part computes once an image."""

    levels: list[Tensor]
    semantic_logits: Tensor
    proposals: ProposalOutput


class PanopticFPN(nn.Module):
    """Images to detections with masks and a semantic map.

    ``loss`` and ``predict`` are separate: what comes back never depends on ``self.training``.

    Args:
        options: The network.
        anchors: RPN anchors (they belong to the data).
        num_things: Thing categories.
        num_categories: Things and stuff.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        options: ModelOptions,
        *,
        anchors: AnchorOptions,
        num_things: int,
        num_categories: int,
    ) -> None:
        super().__init__()
        self.options = options
        self.backbone: Backbone = build_backbone(options.backbone)
        width, roi = self.backbone.channels, options.roi
        self.proposals = ProposalNetwork(width, anchors=anchors, options=options.proposals)
        self.box_stage = BoxStage(
            BoxHead(width, num_things, fc_channels=roi.box_fc_channels), options=roi
        )
        self.mask_head = MaskHead(
            width,
            num_things,
            channels=roi.mask_channels,
            num_convs=roi.mask_convs,
            norm=roi.mask_norm,
        )
        channels = options.semantic.channels
        self.semantic_trunk = SemanticTrunk(width, channels, self.backbone.strides[:4])
        self.semantic_predictor = SemanticPredictor(channels, num_categories)
        self.register_buffer("pixel_mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(IMAGENET_STD).view(3, 1, 1))
        self._memory_format = (
            torch.channels_last if options.channels_last else torch.contiguous_format
        )
        self.to(memory_format=self._memory_format)

    def loss(self, batch: Batch, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Unweighted losses of a batch.

        Args:
            batch: With training targets.
            generator: Draws anchors and RoIs; of the CPU.

        Returns:
            Scalars ``rpn_objectness``, ``rpn_box``, ``box_class``, ``box_regression``, ``mask``
            and ``semantic``.
        """
        targets, options = batch.targets, self.options.proposals
        dense = self._dense(batch)
        losses = self.proposals.loss(
            dense.proposals, [t.boxes for t in targets], generator=generator
        )
        proposals = self.proposals.propose(
            dense.proposals,
            batch.image_sizes,
            pre_nms=options.pre_nms_train,
            post_nms=options.post_nms_train,
        )
        samples = [
            sample_rois(p, t, options=self.options.roi, generator=generator)
            for p, t in zip(proposals, targets, strict=True)
        ]
        pooled = self._pool(dense, [s.boxes for s in samples], BOX_SIDE)
        losses |= self.box_stage.loss(pooled, samples, targets)
        losses["mask"] = self._mask_loss(dense, samples, targets)
        semantic = torch.stack([t.semantic for t in targets])
        losses["semantic"] = semantic_loss(dense.semantic_logits, semantic)
        return losses

    def predict(self, batch: Batch) -> list[RawPrediction]:
        """Raw predictions of each image; the caller sets eval mode and disables gradients."""
        options = self.options.proposals
        dense = self._dense(batch)
        proposals = self.proposals.propose(
            dense.proposals,
            batch.image_sizes,
            pre_nms=options.pre_nms_eval,
            post_nms=options.post_nms_eval,
        )
        pooled = self._pool(dense, proposals, BOX_SIDE)
        detections = self.box_stage.detect(pooled, proposals, batch.image_sizes)
        mask_logits = self._masks(dense, detections)
        return [
            RawPrediction(
                boxes=d.boxes,
                scores=d.scores,
                labels=d.labels,
                mask_logits=masks,
                semantic_logits=semantic.float(),
                image_size=size,
                original_size=sample.original_size,
            )
            for d, masks, semantic, size, sample in zip(
                detections,
                mask_logits,
                dense.semantic_logits,
                batch.image_sizes,
                batch.samples,
                strict=True,
            )
        ]

    def normalize(self, batch: Batch) -> Tensor:
        """``[B, 3, H, W]`` float32: ImageNet statistics, zero in the padding."""
        images = (batch.images.float() - self.pixel_mean) / self.pixel_std
        for image, (height, width) in zip(images, batch.image_sizes, strict=True):
            image[:, height:] = 0
            image[:, :, width:] = 0
        return images

    def _dense(self, batch: Batch) -> _Dense:
        images = self.normalize(batch)
        levels = self.backbone(images.contiguous(memory_format=self._memory_format))
        semantic_logits = self.semantic_predictor(self.semantic_trunk(levels[:4]))
        return _Dense(levels, semantic_logits, self.proposals(levels, images))

    def _pool(self, dense: _Dense, boxes: Sequence[Tensor], side: int) -> Tensor:
        return pool_rois(
            dense.levels[:4],
            boxes,
            strides=self.backbone.strides[:4],
            side=side,
            canonical_size_px=self.options.roi.canonical_size_px,
            sampling_ratio=self.options.roi.sampling_ratio,
        )

    def _mask_loss(
        self,
        dense: _Dense,
        samples: Sequence[RoISample],
        targets: Sequence[TrainingTarget],
    ) -> Tensor:
        pooled = self._pool(dense, [s.positive_boxes for s in samples], MASK_INPUT_SIDE)
        logits = self.mask_head(pooled, torch.cat([s.positive_labels for s in samples]))
        truth = [_mask_targets(s, t) for s, t in zip(samples, targets, strict=True)]
        return mask_loss(logits, torch.cat(truth))

    def _masks(self, dense: _Dense, detections: Sequence[Detections]) -> Sequence[Tensor]:
        pooled = self._pool(dense, [d.boxes for d in detections], MASK_INPUT_SIDE)
        logits = self.mask_head(pooled, torch.cat([d.labels for d in detections])).float()
        return torch.split(logits, [len(d.boxes) for d in detections])


def _mask_targets(sample: RoISample, target: TrainingTarget) -> Tensor:
    """``[P, 28, 28]`` soft masks of the positives, on their device."""
    matched = sample.matched.cpu().tolist()
    crops = {k: decode_mask(target.masks[k]) for k in set(matched)}
    boxes = sample.positive_boxes
    soft = roi_mask_targets([crops[k] for k in matched], boxes.cpu().numpy(), MASK_SIDE)
    return torch.from_numpy(soft).to(boxes.device)
