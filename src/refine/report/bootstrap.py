"""How certain a panoptic quality is: bootstrap intervals over images.

The bootstrap draws as many images as there are, with replacement, and computes PQ anew, so an
interval says what other images of the same kind would give. It says nothing about what another
training seed would give.

A category that few images have is missing in many resamples and then enters no average, so on a
handful of images the interval can lie lopsided around the value. Differences suffer less.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from refine.metrics.functional import GROUP_SUFFIXES
from refine.report.finished_run import FinishedRun, check_comparable, divide

NUM_RESAMPLES = 2000
"""Enough for the ends of a 95 % interval to move by a few hundredths of its length."""

_PERCENTILES = (2.5, 97.5)
_CHUNK = 250  # resamples; at 5000 images their weights take 10 MB
_ROUNDING = 1e-12  # two sums of the same numbers may differ by as much


class Interval(NamedTuple):
    """A quantity over the images as they are, with its 95 % percentile interval."""

    value: float
    low: float
    high: float

    @property
    def includes_zero(self) -> bool:
        """Whether the interval of a difference holds 0: these images cannot tell the runs apart."""
        return self.low <= _ROUNDING and self.high >= -_ROUNDING

    def format(self, *, sign: str = "+", decimals: int = 1) -> str:
        """Text such as ``+1.2 [+0.3, +2.0]``, times 100; an empty ``sign`` marks only negatives."""
        value, low, high = (f"{100 * number:{sign}.{decimals}f}" for number in self)
        return f"{value} [{low}, {high}]"


class Resampled(NamedTuple):
    """A run on many resamples of its images, by ``pq``, ``pq_things`` and ``pq_stuff``.

    Attributes:
        run: The run.
        values: Value over the images as they are.
        draws: ``[K]`` values over the resamples; entry k of any run on the same images is of the
            same resample.
    """

    run: FinishedRun
    values: Mapping[str, float]
    draws: Mapping[str, np.ndarray]


def resample(run: FinishedRun, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Resampled:
    """Draw resamples of a run's images; only those of equal seeds are comparable."""
    number = len(run.image_ids)
    weights = draw_weights(number, num_resamples=num_resamples, seed=seed)
    chunks = [compute_pq(run, chunk) for chunk in weights]
    values = {key: float(value[0]) for key, value in compute_pq(run, np.ones((1, number))).items()}
    draws = {key: np.concatenate([chunk[key] for chunk in chunks]) for key in values}
    return Resampled(run, values, draws)


def compute_intervals(
    runs: Sequence[Resampled], minus: Sequence[Resampled] = ()
) -> dict[str, Interval]:
    """Intervals of the mean over runs, such as seeds, or of its difference to that of ``minus``.

    The difference is of the same resamples: drawing the images in pairs leaves out what both find
    hard, so its interval is narrower than those of the means suggest. At least one run; all on the
    same images and resamples. By ``pq``, ``pq_things`` and ``pq_stuff``.

    Raises:
        RefineError: The runs have other images or categories.
    """
    for other in (*runs, *minus):
        check_comparable(runs[0].run, other.run)
    intervals = {}
    for key in runs[0].values:
        value, draws = _average(runs, key)
        if minus:
            before, draws_before = _average(minus, key)
            value, draws = value - before, draws - draws_before
        low, high = np.percentile(draws, _PERCENTILES)
        intervals[key] = Interval(value, float(low), float(high))
    return intervals


def _average(runs: Sequence[Resampled], key: str) -> tuple[float, np.ndarray]:
    value = math.fsum(run.values[key] for run in runs) / len(runs)
    return value, np.mean([run.draws[key] for run in runs], axis=0)


def compare(
    first: FinishedRun, second: FinishedRun, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """Paired intervals of ``second - first``, as :func:`compute_intervals`."""
    check_comparable(first, second)
    before, after = (resample(r, num_resamples=num_resamples, seed=seed) for r in (first, second))
    return compute_intervals([after], minus=[before])


def compute_pq(run: FinishedRun, weights: np.ndarray) -> dict[str, np.ndarray]:
    """PQ over images that count several times or not at all; ``[K]`` fractions by metric key.

    As everywhere, a category without any segment in a resample enters no average, and a group
    without such categories gives 0. ``weights`` is ``[K, N]`` float64: how often each of the run's
    N images counts in each of K resamples.
    """
    quality, is_present = divide(weights @ run.iou, weights @ run.halves)  # [K, C]
    num_things = run.categories.num_things
    columns = {"all": slice(None), "things": slice(num_things), "stuff": slice(num_things, None)}
    return {
        f"pq{suffix}": quality[:, columns[group]].sum(axis=1)
        / np.maximum(is_present[:, columns[group]].sum(axis=1), 1)
        for group, suffix in GROUP_SUFFIXES.items()
    }


def draw_weights(num_images: int, *, num_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image is drawn (multinomial), a chunk of resamples at a time.

    Yields:
        ``[K, num_images]`` float64; each row sums to ``num_images``.

    Raises:
        ValueError: Nothing to draw.
    """
    if num_images < 1 or num_resamples < 1:
        raise ValueError(f"{num_resamples} resamples of {num_images} images: both must be positive")
    generator = np.random.default_rng(seed)
    for start in range(0, num_resamples, _CHUNK):
        number = min(_CHUNK, num_resamples - start)
        drawn = generator.integers(num_images, size=(number, num_images))
        drawn += num_images * np.arange(number)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=number * num_images)
        yield counts.reshape(number, num_images).astype(np.float64)
