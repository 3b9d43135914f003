"""Choose a setting on one half of the images, report it on the other.

A setting chosen and reported on the same images looks better than it is: the best of twenty is best
partly by luck. Images with an even place in the order of their ids choose, the others report.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from refine.report.bootstrap import NUM_RESAMPLES, Interval, bootstrap_difference, compute_pq
from refine.report.runs import Run, check_comparable


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What a sweep gives.

    Attributes:
        chosen: The run that is best on the choosing half; of equal ones the first.
        choosing: On the choosing half, the score of every run, in their order.
        reporting: On the reporting half, the same.
        differences: Chosen minus reference on the reporting half, by ``pq``, ``pq_things`` and
            ``pq_stuff``.
    """

    chosen: Run
    choosing: list[float]
    reporting: list[float]
    differences: dict[str, Interval]


def choose_on_half(
    runs: Sequence[Run],
    reference: Run,
    *,
    key: str = "pq",
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Choice:
    """Choose among the runs of a sweep.

    Args:
        runs: At least one, on the same images.
        reference: What the chosen one is compared with, on these images too.
        key: ``pq``, ``pq_things`` or ``pq_stuff``: what is chosen by.
        num_resamples: Of the bootstrap.
        seed: Of the resamples.

    Raises:
        RefineError: The runs have other images or categories.
    """
    for run in runs:
        check_comparable(reference, run)
    chooses = np.arange(len(reference.image_ids)) % 2 == 0
    choosing = [_score(take_images(run, chooses), key) for run in runs]
    reporting = [_score(take_images(run, ~chooses), key) for run in runs]
    chosen = runs[int(np.argmax(choosing))]
    differences = bootstrap_difference(
        take_images(reference, ~chooses),
        take_images(chosen, ~chooses),
        num_resamples=num_resamples,
        seed=seed,
    )
    return Choice(chosen, choosing, reporting, differences)


def take_images(run: Run, kept: np.ndarray) -> Run:
    """A run on some of its images; its ``metrics`` stay those of all.

    Args:
        run: With N images.
        kept: ``[N]`` bool.
    """
    return replace(run, image_ids=run.image_ids[kept], iou=run.iou[kept], halves=run.halves[kept])


def _score(run: Run, key: str) -> float:
    return float(compute_pq(run, np.ones((1, len(run.image_ids))))[key][0])
