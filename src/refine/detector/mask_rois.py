"""The RoIs of an image that a mask head trains on, and its canvas is made of."""

import torch
from torch import Tensor

from refine.detector.proposals import match_boxes
from refine.detector.rois import BACKGROUND, RoIs
from refine.ops.boxes import is_proper, sample_labels
from refine.options import IBPPOptions, RoIOptions
from refine.types import TrainingTarget


@torch.no_grad()
def choose_mask_rois(
    sample: RoIs,
    scores: Tensor,
    moved: Tensor,
    target: TrainingTarget,
    *,
    ibpp: IBPPOptions,
    options: RoIOptions,
    iou_thresh: float,
    generator: torch.Generator,
) -> RoIs:
    """Positives among the boxes that a stage was given, or has regressed; then false positives.

    Args:
        sample: M boxes that a stage was trained on.
        scores: ``[M, num_things]`` class probabilities of these.
        moved: ``[M, 4]`` what the stage made of them; some may have no area.
        target: True instances of the image.
        ibpp: ``trained_rois``: ``stage_input`` are the boxes given; ``canvas_false_positives``.
        options: Size of the sample.
        iou_thresh: Least IoU of a regressed box with an instance.
        generator: Generator of the draws; of the CPU.
    """
    if ibpp.trained_rois == "stage_input":
        boxes, matched = sample.boxes, sample.matched
        drawn = torch.nonzero(sample.is_true)[:, 0]
    else:
        boxes = moved
        matched = match_boxes(target.boxes, moved, high=iou_thresh, low=iou_thresh, rescue=False)
        count = int(options.samples_per_image * options.positive_fraction)
        drawn = _draw(matched >= 0, count, generator)
    labels = target.labels[matched[drawn]]
    positives = RoIs(boxes[drawn], labels, scores[drawn, labels], matched[drawn])
    if not ibpp.canvas_false_positives:
        return positives
    best, guesses = scores.max(dim=1)
    truth = torch.cat([target.labels, target.labels.new_full((1,), BACKGROUND)])[matched]
    is_wrong = (truth != guesses) & (best >= ibpp.canvas_score_thresh) & is_proper(boxes)
    drawn = _draw(is_wrong, ibpp.canvas_false_positives, generator)
    wrong = RoIs.of_detections(boxes[drawn], guesses[drawn], best[drawn])
    return RoIs.join([positives, wrong])


def _draw(candidates: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``[K]`` int64 positions of at most ``count`` of the candidates, a bool each."""
    labels = torch.where(candidates, 1, -1)
    return sample_labels(labels, num_samples=count, positive_fraction=1.0, generator=generator)
