"""One stage of box classification and regression on RoIs (Fast R-CNN; FPN, Lin et al. 2017)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms

from refine.detector.blocks import init_he, named_draws
from refine.detector.losses import classification_loss, regression_loss
from refine.detector.rois import RoIs, RoISample, Truth
from refine.ops.boxes import BoxCoder, clip_boxes, is_proper
from refine.ops.conversion import format_of
from refine.options import RoIOptions

BOX_SIDE = 7
"""Side of the RoI feature that the box head reads."""
CODE_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Scale of the box code in a plain head and in a cascade's first stage; stage k has k times it."""


class BoxHead(nn.Module):
    """Two fully connected layers that classify RoIs and regress one box per thing category.

    Args:
        in_channels: Channels of the RoI feature.
        num_things: Number of thing categories; the classifier adds background as class 0.
        fc_channels: Width of the two fully connected layers.
        class_agnostic: Whether one box serves all categories (stages of a cascade).
    """

    def __init__(
        self, in_channels: int, num_things: int, *, fc_channels: int, class_agnostic: bool = False
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_channels * BOX_SIDE**2, fc_channels)
        self.fc2 = nn.Linear(fc_channels, fc_channels)
        self.classifier = nn.Linear(fc_channels, 1 + num_things)
        with named_draws("regressor"):  # its size must not move the others' draws
            self.regressor = nn.Linear(
                fc_channels, 4 * (1 if class_agnostic else max(num_things, 1))
            )
            nn.init.normal_(self.regressor.weight, std=0.001)
        init_he(self.fc1)
        init_he(self.fc2)
        nn.init.normal_(self.classifier.weight, std=0.01)
        for layer in (self.classifier, self.regressor):
            nn.init.zeros_(layer.bias)

    def forward(self, roi_features: Tensor) -> tuple[Tensor, Tensor]:
        """``[N, in_channels, 7, 7]`` to class logits and coded box deltas.

        Their shapes are ``[N, 1 + num_things]`` (0 is background) and ``[N, num_things or 1, 4]``.
        """
        weight = self.fc1.weight
        is_last = format_of(roi_features) is torch.channels_last
        if is_last and len(roi_features) > len(weight):  # it is the smaller one that is copied
            weight = weight.view(-1, *roi_features.shape[1:]).permute(0, 2, 3, 1).flatten(1)
            roi_features = roi_features.permute(0, 2, 3, 1)
        hidden = F.relu(F.linear(roi_features.flatten(1), weight, self.fc1.bias))
        hidden = F.relu(self.fc2(hidden))
        return self.classifier(hidden), self.regressor(hidden).unflatten(1, (-1, 4))


class BoxStage(nn.Module):
    """A box head with its code, losses and inference; stages of a cascade have numbers from 1."""

    def __init__(self, head: BoxHead, *, options: RoIOptions, number: int = 1) -> None:
        super().__init__()
        self.head = head
        self.options = options
        across, down, width, height = CODE_WEIGHTS
        self.box_coder = BoxCoder((number * across, number * down, number * width, number * height))

    def loss(
        self, logits: Tensor, deltas: Tensor, sample: RoISample, truth: Truth
    ) -> dict[str, Tensor]:
        """``box_class`` and ``box_regression`` of sampled RoIs.

        The logits and deltas are the head's.
        """
        labels, rois = sample.rois.labels + 1, sample.rois.select(sample.positives)
        codes = _of_category(deltas.index_select(0, sample.positives.index), rois.labels)
        code_targets = self.box_coder.encode(truth.boxes[rois.matched], rois.boxes)
        return {
            "box_class": classification_loss(logits, labels),
            "box_regression": regression_loss(codes, code_targets, num_samples=len(labels)),
        }

    @torch.no_grad()
    def refine(self, boxes: Tensor, categories: Tensor, deltas: Tensor, limits: Tensor) -> Tensor:
        """Regress boxes ``[M, 4]``; some may have no area afterwards.

        Args:
            boxes: Boxes that the deltas belong to.
            categories: ``[M]`` thing categories whose regression is taken.
            deltas: ``[M, num_things or 1, 4]``.
            limits: ``[M, 4]`` or ``[4]`` largest corners.
        """
        codes = _of_category(deltas.float(), categories)
        return clip_boxes(self.box_coder.decode(codes, boxes), limits)

    def detect(self, proposals: Tensor, scores: Tensor, deltas: Tensor, limits: Tensor) -> RoIs:
        """Boxes of one image after NMS, best first.

        The arguments are those of :meth:`refine`, with the scores ``[M, num_things]`` in [0, 1].
        """
        options = self.options
        by_detectron2 = options.detection_rules == "detectron2"
        compare = torch.gt if by_detectron2 else torch.ge
        # only pairs (RoI, category) that can survive are decoded
        roi, label = compare(scores, options.score_thresh).nonzero(as_tuple=True)
        boxes = self.refine(proposals[roi], label, deltas[roi], limits)
        competes = torch.isfinite(boxes).all(dim=1) if by_detectron2 else is_proper(boxes)
        boxes, label, kept_scores = boxes[competes], label[competes], scores[roi, label][competes]
        keep = batched_nms(boxes, kept_scores, label, options.nms_thresh)[: options.max_detections]
        keep = keep[is_proper(boxes[keep])]
        return RoIs.of_detections(boxes[keep], label[keep], kept_scores[keep])


def _of_category(deltas: Tensor, categories: Tensor) -> Tensor:
    """``[M, 4]``: code of the category, or the one that serves all."""
    if deltas.shape[1] == 1:
        return deltas[:, 0]
    return deltas[torch.arange(len(deltas), device=deltas.device), categories]
