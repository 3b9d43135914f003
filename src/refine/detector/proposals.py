"""Region proposals: the only file that touches torchvision's detection package.

The RPN head is its; ``FasterRCNN`` and ``RoIHeads`` are not used: their return type follows
``self.training``, a cascade does not fit them, and they wait for the device at every image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection.rpn import RPNHead

from refine.detector.backbone import Backbone
from refine.detector.blocks import SameConv
from refine.detector.losses import objectness_loss, regression_loss
from refine.detector.rois import Truth
from refine.ops.boxes import (
    BoxCoder,
    clip_boxes,
    is_proper,
    lay_anchors,
    limits_of,
    match_boxes,
    sample_labels,
)
from refine.ops.nms import select_by_nms
from refine.options import AnchorOptions, ProposalOptions


@dataclass(frozen=True, slots=True, eq=False)
class ProposalOutput:
    """Predictions for every anchor.

    Attributes:
        objectness: ``[B, A_l]`` logits of each level.
        deltas: ``[B, A_l, 4]`` box codes of each level.
        anchors: ``[A_l, 4]`` xyxy network pixels of each level.
    """

    objectness: list[Tensor]
    deltas: list[Tensor]
    anchors: list[Tensor]


class ProposalNetwork(nn.Module):
    """RPN (Ren et al. 2015) with one anchor size per level of a pyramid (FPN)."""

    def __init__(self, channels: int, *, anchors: AnchorOptions, options: ProposalOptions) -> None:
        super().__init__()
        self.options = options
        self.anchors = anchors
        self.head = RPNHead(channels, len(anchors.aspect_ratios))
        SameConv.adopt(self.head)
        self.box_coder = BoxCoder((1.0, 1.0, 1.0, 1.0))

    def forward(self, features: Sequence[Tensor], images: Tensor) -> ProposalOutput:
        """Score and regress every anchor of P2 to P6, ``[B, C, h, w]`` each.

        Of the images ``[B, 3, H, W]`` only the size is read.
        """
        objectness, deltas = self.head(list(features))
        flat_objectness = [o.permute(0, 2, 3, 1).flatten(1).float() for o in objectness]
        flat_deltas = [d.permute(0, 2, 3, 1).reshape(len(d), -1, 4).float() for d in deltas]
        return ProposalOutput(flat_objectness, flat_deltas, self._lay_anchors(features, images))

    def _lay_anchors(self, features: Sequence[Tensor], images: Tensor) -> list[Tensor]:
        """``[A_l, 4]`` of each level, the same for every image of a padded batch."""
        grids = [(f.shape[-2], f.shape[-1]) for f in features]
        strides = [(stride, stride) for stride in Backbone.strides]
        rounded = self.options.anchor_grid == "rounded"
        if rounded:  # stretched to the cells of the level
            strides = [(images.shape[-2] // h, images.shape[-1] // w) for h, w in grids]
        return lay_anchors(
            grids,
            strides=strides,
            sizes_px=self.anchors.sizes_px,
            aspect_ratios=self.anchors.aspect_ratios,
            rounded=rounded,
            device=images.device,
        )

    @torch.no_grad()
    def propose(
        self,
        output: ProposalOutput,
        image_sizes: Sequence[tuple[int, int]],
        *,
        pre_nms: int,
        post_nms: int,
    ) -> list[Tensor]:
        """Proposals of each image, best first.

        Args:
            output: Predictions of :meth:`forward`.
            image_sizes: ``(height, width)`` without padding; proposals are clipped to it.
            pre_nms: Maximum anchors per level before NMS.
            post_nms: Maximum proposals ``[N, 4]`` per image.
        """
        parts = []
        for logits, deltas, anchors in zip(
            output.objectness, output.deltas, output.anchors, strict=True
        ):
            top, index = logits.topk(min(pre_nms, logits.shape[1]), dim=1)
            codes = deltas.gather(1, index[..., None].expand(-1, -1, 4))
            parts.append((top, codes, anchors[index]))
        scores, codes, chosen = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        decoded = self.box_coder.decode(codes.flatten(0, 1), chosen.flatten(0, 1)).view_as(codes)
        clipped = clip_boxes(decoded, limits_of(image_sizes, decoded.device)[:, None])
        selected = select_by_nms(
            clipped,
            scores,
            is_proper(clipped),
            counts=[top.shape[1] for top, *_ in parts],
            iou_thresh=self.options.nms_thresh,
            limit=post_nms,
        )
        return list(torch.split(clipped.flatten(0, 1)[selected.index], selected.counts))

    def loss(
        self, output: ProposalOutput, truth: Truth, *, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """``rpn_objectness`` and ``rpn_box`` over sampled anchors.

        Args:
            output: Predictions of :meth:`forward`.
            truth: Instances of the images.
            generator: Generator of the sample; of the CPU.
        """
        options, anchors = self.options, torch.cat(output.anchors)
        matched = match_boxes(
            truth.boxes,
            truth.rows,
            anchors.expand(len(truth.rows), -1, -1),
            high=options.iou_positive,
            low=options.iou_negative,
            rescue=True,
        )
        sampled, positives = sample_labels(
            matched,
            num_samples=options.samples_per_image,
            positive_fraction=options.positive_fraction,
            generator=generator,
        )
        positive = sampled.index[positives.index]
        # the gradient of an index would sort it first
        logits = torch.cat(output.objectness, dim=1).flatten().index_select(0, sampled.index)
        codes = torch.cat(output.deltas, dim=1).flatten(0, 1).index_select(0, positive)
        instances = matched.flatten()
        code_targets = self.box_coder.encode(
            truth.boxes[instances[positive]], anchors[positive % len(anchors)]
        )
        return {
            "rpn_objectness": objectness_loss(logits, instances[sampled.index] >= 0),
            "rpn_box": regression_loss(codes, code_targets, num_samples=len(logits)),
        }
