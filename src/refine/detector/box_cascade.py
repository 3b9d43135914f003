"""Box stages one after the other (Cascade R-CNN, Cai and Vasconcelos 2018); one is a plain head.

Training follows HTC (Chen et al. 2019): each stage draws its own sample from the boxes of the stage
before, at its own IoU. In inference the class probabilities are averaged over the stages and the
last stage gives the boxes.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from refine.detector.blocks import named_draws
from refine.detector.box_stage import BoxHead, BoxStage
from refine.detector.losses import name_of
from refine.detector.mask_rois import choose_mask_rois
from refine.detector.rois import RoIs, sample_rois
from refine.options import IBPPOptions, RoIOptions
from refine.types import TrainingTarget

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
        targets: Sequence[TrainingTarget],
        *,
        pool: Pool,
        image_sizes: Sequence[tuple[int, int]],
        ibpp: IBPPOptions,
        generator: torch.Generator,
    ) -> tuple[dict[str, Tensor], list[list[RoIs]]]:
        """Losses of every stage, and the RoIs that the mask heads train on.

        Args:
            proposals: ``[N, 4]`` of each image.
            targets: True instances of each image.
            pool: RoI features.
            image_sizes: ``(height, width)`` of each image without padding.
            ibpp: Choice of the RoIs of the masks, see there.
            generator: Generator of the samples; of the CPU.

        Returns:
            ``box_class`` and ``box_regression``, numbered from 1 if there are several stages; and
            the RoIs of each image, for each stage, or once if ``ibpp.trained_rois`` is ``final``.
            They are positives, and false positives if the canvas shall have them.
        """
        losses: dict[str, Tensor] = {}
        chosen, boxes, is_final = [], proposals, ibpp.trained_rois == "final"
        sampling: dict[str, Any] = {"options": self.options, "generator": generator}
        for k, sampling["iou_thresh"] in enumerate(self.iou_thresh):
            samples = sample_rois(boxes, targets, **sampling)
            of_stage, scores, moved = self._train_stage(k, samples, targets, pool, image_sizes)
            for kind, value in of_stage.items():
                losses[name_of(kind, k + 1, is_numbered=len(self.stages) > 1)] = value
            boxes = moved
            if is_final and k + 1 < len(self.stages):
                continue
            rois = choose_mask_rois(
                samples,
                scores,
                moved,
                targets,
                ibpp=ibpp,
                options=self.options,
                iou_thresh=self.options.iou_thresh if is_final else sampling["iou_thresh"],
                generator=generator,
            )
            if ibpp.mask_rois_add_truth:
                truth = self._score_truth(k, targets, pool)
                rois = [RoIs.join(pair) for pair in zip(rois, truth, strict=True)]
            chosen.append(rois)
        return losses, chosen

    def detect(
        self, proposals: Sequence[Tensor], *, pool: Pool, image_sizes: Sequence[tuple[int, int]]
    ) -> list[RoIs]:
        """Final boxes of each image, best first; arguments as in :meth:`loss`."""
        boxes, scores, deltas = self._classify(proposals, pool, image_sizes)
        images = zip(boxes, scores, deltas, image_sizes, strict=True)
        return [self._stage(-1).detect(*image) for image in images]

    def score(
        self,
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        *,
        pool: Pool,
        image_sizes: Sequence[tuple[int, int]],
    ) -> list[Tensor]:
        """``[N]`` float32 scores in [0, 1] of these boxes ``[N, 4]`` and labels ``[N]``."""
        return _pick(self._classify(boxes, pool, image_sizes)[1], labels)

    def _classify(
        self, proposals: Sequence[Tensor], pool: Pool, image_sizes: Sequence[tuple[int, int]]
    ) -> tuple[list[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        """For each image: input boxes of the last stage, mean scores, deltas of the last stage."""
        boxes, counts = list(proposals), [len(p) for p in proposals]
        scores: list[Tensor] = []
        deltas: Sequence[Tensor] = ()
        for k in range(len(self.stages)):
            if k:
                best = torch.split(scores[-1].argmax(dim=1), counts)
                images = zip(boxes, best, deltas, image_sizes, strict=True)
                boxes = [self._stage(k - 1).refine(*image) for image in images]
            logits, flat_deltas = self._stage(k).head(pool(boxes))
            scores.append(_score_things(logits))
            deltas = torch.split(flat_deltas.float(), counts)
        return boxes, torch.split(torch.stack(scores).mean(dim=0), counts), deltas

    def _stage(self, index: int) -> BoxStage:
        return cast(BoxStage, self.stages[index])

    def _train_stage(
        self,
        index: int,
        samples: Sequence[RoIs],
        targets: Sequence[TrainingTarget],
        pool: Pool,
        image_sizes: Sequence[tuple[int, int]],
    ) -> tuple[dict[str, Tensor], Sequence[Tensor], list[Tensor]]:
        """Losses; probabilities ``[M, num_things]`` and regressed boxes of each image."""
        stage = self._stage(index)
        features = pool([s.boxes for s in samples])
        if self.options.scale_gradient:
            share = 1 / len(self.stages)
            features = features * share + features.detach() * (1 - share)
        logits, deltas = stage.head(features)
        counts = [len(s.boxes) for s in samples]
        scores = torch.split(_score_things(logits.detach()), counts)
        moved, of_images = [], torch.split(deltas.detach(), counts)
        for sample, score, delta, size in zip(samples, scores, of_images, image_sizes, strict=True):
            # positives by the regression of their category, negatives by that of the likeliest
            category = torch.where(sample.labels >= 0, sample.labels, score.argmax(dim=1))
            moved.append(stage.refine(sample.boxes, category, delta, size))
        return stage.loss(logits, deltas, samples, targets), scores, moved

    @torch.no_grad()
    def _score_truth(
        self, index: int, targets: Sequence[TrainingTarget], pool: Pool
    ) -> Iterator[RoIs]:
        """The true boxes of each image, with the scores that a stage gives them."""
        logits, _ = self._stage(index).head(pool([t.boxes for t in targets]))
        scores = torch.split(_score_things(logits), [len(t.boxes) for t in targets])
        of_labels = _pick(scores, [t.labels for t in targets])
        for target, of_label in zip(targets, of_labels, strict=True):
            instances = torch.arange(len(of_label), device=of_label.device)
            yield RoIs(target.boxes, target.labels, of_label, instances)


def _score_things(logits: Tensor) -> Tensor:
    """``[N, num_things]`` probabilities; without things a column of -1, which nothing passes."""
    scores = logits.float().softmax(dim=1)[:, 1:]
    return scores if scores.shape[1] else scores.new_full((len(scores), 1), -1.0)


def _pick(scores: Sequence[Tensor], labels: Sequence[Tensor]) -> list[Tensor]:
    """The score ``[N]`` of each RoI's label, from those of all categories."""
    images = zip(scores, labels, strict=True)
    return [of_image.gather(1, label[:, None])[:, 0] for of_image, label in images]
