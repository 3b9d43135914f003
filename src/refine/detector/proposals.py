"""Region proposals, and RoI matching: the only file that touches torchvision's detection package.

Single parts of it are used (anchors, RPN head, matcher, box coder), never ``FasterRCNN`` or
``RoIHeads``: their return type follows ``self.training`` and a cascade does not fit them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder as BoxCoder
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image

from refine.detector.backbone import Backbone
from refine.detector.losses import objectness_loss, regression_loss
from refine.ops.boxes import exact_anchors, is_proper, sample_labels
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


def match_boxes(
    truth: Tensor, candidates: Tensor, *, high: float, low: float, rescue: bool
) -> Tensor:
    """Index ``[N]`` int64 of the true box of each candidate; -1 negative, -2 neither.

    Args:
        truth: ``[G, 4]``.
        candidates: ``[N, 4]``.
        high: Least IoU of a positive candidate.
        low: IoU below which a candidate is negative.
        rescue: Whether every true box also gets its best candidates, however low their IoU.
    """
    if not len(truth):
        return torch.full((len(candidates),), -1, dtype=torch.int64, device=candidates.device)
    matched: Tensor = Matcher(high, low, rescue)(box_iou(truth, candidates))
    return matched


class ProposalNetwork(nn.Module):
    """RPN (Ren et al. 2015) with one anchor size per level of a pyramid (FPN)."""

    def __init__(self, channels: int, *, anchors: AnchorOptions, options: ProposalOptions) -> None:
        super().__init__()
        self.options = options
        self.anchors = anchors
        self.anchor_generator = AnchorGenerator(
            tuple((size,) for size in anchors.sizes_px),
            (tuple(anchors.aspect_ratios),) * len(anchors.sizes_px),
        )
        self.head = RPNHead(channels, len(anchors.aspect_ratios))
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
        if self.options.anchor_grid == "exact":
            return exact_anchors(
                [(f.shape[-2], f.shape[-1]) for f in features],
                strides=Backbone.strides,
                sizes_px=self.anchors.sizes_px,
                aspect_ratios=self.anchors.aspect_ratios,
                device=images.device,
            )
        one = ImageList(images[:1], [(images.shape[-2], images.shape[-1])])
        grid = self.anchor_generator(one, [f.float() for f in features])[0]
        counts = [f[0, 0].numel() * len(self.anchors.aspect_ratios) for f in features]
        return list(grid.split(counts))

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
        levels = []
        for k, (logits, deltas, anchors) in enumerate(
            zip(output.objectness, output.deltas, output.anchors, strict=True)
        ):
            top, index = logits.topk(min(pre_nms, logits.shape[1]), dim=1)
            chosen = deltas.gather(1, index[..., None].expand(-1, -1, 4)).flatten(0, 1)
            decoded = self.box_coder.decode_single(chosen, anchors[index].flatten(0, 1))
            levels.append((decoded.unflatten(0, index.shape), top, torch.full_like(index, k)))
        images = (torch.cat(parts, 1) for parts in zip(*levels, strict=True))
        proposals = []
        for boxes, scores, level, size in zip(*images, image_sizes, strict=True):
            clipped = clip_boxes_to_image(boxes, size)
            proper = is_proper(clipped)
            clipped = clipped[proper]
            kept = batched_nms(clipped, scores[proper], level[proper], self.options.nms_thresh)
            proposals.append(clipped[kept[:post_nms]])
        return proposals

    def loss(
        self, output: ProposalOutput, truth: Sequence[Tensor], *, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """``rpn_objectness`` and ``rpn_box`` over sampled anchors.

        Args:
            output: Predictions of :meth:`forward`.
            truth: ``[G, 4]`` instance boxes of each image.
            generator: Generator of the sample; of the CPU.
        """
        anchors = torch.cat(output.anchors)
        objectness = torch.cat(output.objectness, dim=1)
        deltas = torch.cat(output.deltas, dim=1)
        logits, labels, codes, code_targets = [], [], [], []
        for k, boxes in enumerate(truth):
            sampled, matched = self._sample(anchors, boxes, generator)
            positive = matched >= 0
            logits.append(objectness[k, sampled])
            labels.append(positive)
            codes.append(deltas[k, sampled[positive]])
            code_targets.append(
                self.box_coder.encode_single(boxes[matched[positive]], anchors[sampled[positive]])
            )
        flat_labels = torch.cat(labels)
        return {
            "rpn_objectness": objectness_loss(torch.cat(logits), flat_labels),
            "rpn_box": regression_loss(
                torch.cat(codes), torch.cat(code_targets), num_samples=len(flat_labels)
            ),
        }

    @torch.no_grad()
    def _sample(
        self, anchors: Tensor, boxes: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Indices of sampled anchors, and the box each is matched to (-1: none)."""
        options = self.options
        matched = match_boxes(
            boxes, anchors, high=options.iou_positive, low=options.iou_negative, rescue=True
        )
        labels = (matched >= 0).int() - (matched == -2).int()  # 1 positive, 0 negative, -1 ignored
        sampled = sample_labels(
            labels,
            num_samples=options.samples_per_image,
            positive_fraction=options.positive_fraction,
            generator=generator,
        )
        return sampled, matched[sampled]
