"""Box stages one after the other (Cascade R-CNN, Cai and Vasconcelos 2018); one is a plain head.

Training follows HTC (Chen et al. 2019): each stage draws its own sample from the boxes of the stage
before, at its own IoU. In inference the class probabilities are averaged over the stages and the
last stage gives the boxes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from refine.detector.blocks import named_draws
from refine.detector.box_stage import BoxHead, BoxStage
from refine.detector.losses import name_of
from refine.detector.mask_rois import choose_mask_rois
from refine.detector.rois import RoIs, RoISample, Truth, sample_rois
from refine.ops.boxes import images_of_rows, limits_of
from refine.options import IBPPOptions, RoIOptions

Pool = Callable[[Sequence[Tensor]], Tensor]
"""Boxes of each image to the RoI features ``[N, C, 7, 7]`` that a box head reads."""


class BoxCascade(nn.Module):
    """Box stages on RoI features, with the least IoU of a positive RoI in each."""

    def __init__(
        self, in_channels: int, num_things: int, *, options: RoIOptions, iou_thresh: Sequence[float]
    ) -> None:
        super().__init__()
        self.options = options
        self.iou_thresh = list(iou_thresh)
        head = partial(
            BoxHead,
            in_channels,
            num_things,
            fc_channels=options.box_fc_channels,
            class_agnostic=len(iou_thresh) > 1,
        )
        self.stages = nn.ModuleList()
        for k in range(len(iou_thresh)):
            with named_draws(f"stages.{k}"):
                self.stages.append(BoxStage(head(), options=options, number=k + 1))

    def loss(
        self,
        proposals: Sequence[Tensor],
        truth: Truth,
        *,
        pool: Pool,
        image_sizes: Sequence[tuple[int, int]],
        ibpp: IBPPOptions,
        generator: torch.Generator,
    ) -> tuple[dict[str, Tensor], list[RoIs]]:
        """Losses of every stage, and the RoIs that the mask heads train on.

        Args:
            proposals: ``[N, 4]`` of each image.
            truth: True instances of the images.
            pool: RoI features.
            image_sizes: ``(height, width)`` of each image without padding.
            ibpp: Choice of the RoIs of the masks, see there.
            generator: Generator of the samples; of the CPU.

        Returns:
            ``box_class`` and ``box_regression``, numbered from 1 if there are several stages; and
            the RoIs for each stage, or once if ``ibpp.trained_rois`` is ``final``. They are
            positives, and false positives if the canvas shall have them.
        """
        losses: dict[str, Tensor] = {}
        chosen, boxes, is_final = [], proposals, ibpp.trained_rois == "final"
        limits = limits_of(image_sizes, truth.boxes.device)
        sampling: dict[str, Any] = {"options": self.options, "generator": generator}
        for k, sampling["iou_thresh"] in enumerate(self.iou_thresh):
            sample = sample_rois(boxes, truth, **sampling)
            of_stage, scores, moved = self._train_stage(k, sample, truth, pool=pool, limits=limits)
            for kind, value in of_stage.items():
                losses[name_of(kind, k + 1, is_numbered=len(self.stages) > 1)] = value
            boxes = torch.split(moved, sample.rois.counts)
            if is_final and k + 1 < len(self.stages):
                continue
            rois = choose_mask_rois(
                sample,
                scores,
                moved,
                truth,
                ibpp=ibpp,
                options=self.options,
                iou_thresh=self.options.iou_thresh if is_final else sampling["iou_thresh"],
                generator=generator,
            )
            if ibpp.mask_rois_add_truth:
                rois = RoIs.join([rois, self._score_truth(k, truth, pool)])
            chosen.append(rois)
        return losses, chosen

    def detect(
        self, proposals: Sequence[Tensor], *, pool: Pool, image_sizes: Sequence[tuple[int, int]]
    ) -> RoIs:
        """Final boxes of each image, best first; arguments as in :meth:`loss`."""
        counts = [len(p) for p in proposals]
        found = self._classify(proposals, pool, image_sizes)
        parts = (torch.split(part, counts) for part in found)
        images = zip(*parts, limits_of(image_sizes, found[0].device), strict=True)
        return RoIs.concat([self._stage(-1).detect(*image) for image in images])

    def score(
        self,
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        *,
        pool: Pool,
        image_sizes: Sequence[tuple[int, int]],
    ) -> RoIs:
        """These boxes ``[N, 4]`` and labels ``[N]`` of each image, with their scores."""
        _, scores, _ = self._classify(boxes, pool, image_sizes)
        flat, counts = torch.cat(list(labels)), [len(b) for b in boxes]
        return RoIs.of_detections(torch.cat(list(boxes)), flat, _pick(scores, flat), counts)

    def _classify(
        self, proposals: Sequence[Tensor], pool: Pool, image_sizes: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Input boxes of the last stage, mean scores, deltas of the last stage."""
        boxes, counts = torch.cat(list(proposals)), [len(p) for p in proposals]
        limits = limits_of(image_sizes, boxes.device)[images_of_rows(counts, boxes.device)]
        scores: list[Tensor] = []
        for k in range(len(self.stages)):
            logits, deltas = self._stage(k).head(pool(torch.split(boxes, counts)))
            scores.append(_score_things(logits))
            if k + 1 < len(self.stages):
                boxes = self._stage(k).refine(boxes, scores[-1].argmax(dim=1), deltas, limits)
        return boxes, torch.stack(scores).mean(dim=0), deltas

    def _stage(self, index: int) -> BoxStage:
        return cast(BoxStage, self.stages[index])

    def _train_stage(
        self,
        index: int,
        sample: RoISample,
        truth: Truth,
        *,
        pool: Pool,
        limits: Tensor,
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Losses; probabilities ``[M, num_things]`` and regressed boxes ``[M, 4]``."""
        stage, samples = self._stage(index), sample.rois
        features = pool(samples.boxes_of_images)
        if self.options.scale_gradient:
            features = features.detach().lerp(features, 1 / len(self.stages))
        logits, deltas = stage.head(features)
        scores = _score_things(logits.detach())
        # positives by the regression of their category, negatives by that of the likeliest
        category = torch.where(samples.labels >= 0, samples.labels, scores.argmax(dim=1))
        moved = stage.refine(samples.boxes, category, deltas.detach(), limits[samples.images])
        return stage.loss(logits, deltas, sample, truth), scores, moved

    @torch.no_grad()
    def _score_truth(self, index: int, truth: Truth, pool: Pool) -> RoIs:
        """The true boxes, with the scores that a stage gives them."""
        boxes, labels = truth.boxes[:-1], truth.labels[:-1]
        logits, _ = self._stage(index).head(pool(torch.split(boxes, truth.counts)))
        scores = _pick(_score_things(logits), labels)
        return RoIs(
            boxes, labels, scores, torch.arange(len(boxes), device=boxes.device), truth.counts
        )


def _score_things(logits: Tensor) -> Tensor:
    """``[N, num_things]`` probabilities; without things a column of -1, which nothing passes."""
    scores = logits.float().softmax(dim=1)[:, 1:]
    return scores if scores.shape[1] else scores.new_full((len(scores), 1), -1.0)


def _pick(scores: Tensor, labels: Tensor) -> Tensor:
    """The score ``[N]`` of each RoI's label, from those of all categories."""
    return scores.gather(1, labels[:, None])[:, 0]
