"""The RoIs that a mask head trains on, and its canvas is made of."""

from collections.abc import Sequence

import torch
from torch import Tensor

from refine.detector.rois import RoIs, labels_of, match_to
from refine.ops.boxes import is_proper, sample_labels
from refine.options import IBPPOptions, RoIOptions
from refine.types import TrainingTarget


@torch.no_grad()
def choose_mask_rois(
    samples: Sequence[RoIs],
    scores: Sequence[Tensor],
    moved: Sequence[Tensor],
    targets: Sequence[TrainingTarget],
    *,
    ibpp: IBPPOptions,
    options: RoIOptions,
    iou_thresh: float,
    generator: torch.Generator,
) -> list[RoIs]:
    """Positives among the boxes that a stage was given, or has regressed; then false positives.

    Args:
        samples: M boxes of each image that a stage was trained on.
        scores: ``[M, num_things]`` class probabilities of these.
        moved: ``[M, 4]`` what the stage made of them; some may have no area.
        targets: True instances of each image.
        ibpp: ``trained_rois``: ``stage_input`` are the boxes given; ``canvas_false_positives``.
        options: Size of the sample.
        iou_thresh: Least IoU of a regressed box with an instance.
        generator: Generator of the draws; of the CPU.
    """
    if ibpp.trained_rois == "stage_input":
        boxes, matched = [s.boxes for s in samples], [s.matched for s in samples]
        drawn = [torch.arange(s.num_positives, device=s.boxes.device) for s in samples]
    else:
        boxes, matched = list(moved), match_to(moved, targets, iou_thresh)
        count = int(options.samples_per_image * options.positive_fraction)
        drawn = _draw([of_image >= 0 for of_image in matched], count, generator)
    rois = []
    for of_image, instances, score, target, index in zip(
        boxes, matched, scores, targets, drawn, strict=True
    ):
        labels = target.labels[instances[index]]
        rois.append(RoIs(of_image[index], labels, score[index, labels], instances[index]))
    if not ibpp.canvas_false_positives:
        return rois
    best, guesses = zip(*(score.max(dim=1) for score in scores), strict=True)
    is_wrong = [
        (labels_of(target, instances) != guess)
        & (score >= ibpp.canvas_score_thresh)
        & is_proper(of_image)
        for target, instances, guess, score, of_image in zip(
            targets, matched, guesses, best, boxes, strict=True
        )
    ]
    drawn = _draw(is_wrong, ibpp.canvas_false_positives, generator)
    wrong = [
        RoIs.of_detections(of_image[index], guess[index], score[index])
        for of_image, guess, score, index in zip(boxes, guesses, best, drawn, strict=True)
    ]
    return [RoIs.join(pair) for pair in zip(rois, wrong, strict=True)]


def _draw(candidates: Sequence[Tensor], count: int, generator: torch.Generator) -> list[Tensor]:
    """``[K]`` int64 positions of at most ``count`` of each image's candidates, a bool each."""
    sampled = sample_labels(
        [torch.where(of_image, 1, -1) for of_image in candidates],
        num_samples=count,
        positive_fraction=1.0,
        generator=generator,
    )
    return [index for index, _ in sampled]
