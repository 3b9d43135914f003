"""The RoIs that a mask head trains on, and its canvas is made of."""

from collections.abc import Sequence

import torch
from torch import Tensor

from refine.detector.rois import RoIs, RoISample, Truth, match_to
from refine.ops.boxes import Chosen, is_proper, pad_images, rows_of_images, sample_labels
from refine.options import IBPPOptions, RoIOptions


@torch.no_grad()
def choose_mask_rois(
    sample: RoISample,
    scores: Tensor,
    moved: Tensor,
    truth: Truth,
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
        truth: True instances of the images.
        ibpp: ``trained_rois``: ``stage_input`` are the boxes given; ``canvas_false_positives``.
        options: Size of the sample.
        iou_thresh: Least IoU of a regressed box with an instance.
        generator: Generator of the draws; of the CPU.
    """
    samples, positives = sample
    if ibpp.trained_rois == "stage_input":
        boxes, matched, drawn = samples.boxes, samples.matched, positives
    else:
        boxes, matched = moved, match_to(moved, samples.counts, truth, iou_thresh)
        count = int(options.samples_per_image * options.positive_fraction)
        drawn = _draw(matched >= 0, samples.counts, count, generator)
    index, instances = drawn.index, matched[drawn.index]
    labels = truth.labels[instances]
    rois = RoIs(boxes[index], labels, scores[index, labels], instances, drawn.counts)
    if not ibpp.canvas_false_positives:
        return rois
    best, guesses = scores.max(dim=1)
    is_wrong = (
        (truth.labels[matched] != guesses) & (best >= ibpp.canvas_score_thresh) & is_proper(boxes)
    )
    drawn = _draw(is_wrong, samples.counts, ibpp.canvas_false_positives, generator)
    guessed = RoIs.of_detections(boxes, guesses, best, samples.counts)
    return RoIs.join([rois, guessed.select(drawn)])


def _draw(
    candidates: Tensor, counts: Sequence[int], limit: int, generator: torch.Generator
) -> Chosen:
    """At most ``limit`` candidates (``[M]`` bool) of each image, which has ``counts`` rows."""
    rows = rows_of_images(counts, candidates.device)
    drawn, _ = sample_labels(
        pad_images(candidates.long() * 2 - 2, rows, -2),  # 0 positive, -2 never drawn
        num_samples=limit,
        positive_fraction=1.0,
        generator=generator,
    )
    return Chosen(rows.flatten()[drawn.index], drawn.counts)
