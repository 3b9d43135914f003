"""How sure a panoptic quality is: intervals over images, spreads over seeds.

The bootstrap draws as many images as there are, with replacement, and computes PQ anew, so an
interval says what other images of the same kind would give. It knows nothing of what another
training seed would give; for that there is :func:`mean_and_standard_error` over seeds.

A category that few images have is missing in many resamples and then enters no average, so on a
handful of images the interval can lie lopsided around the value. Differences suffer less.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from refine.metrics.functional import GROUP_SUFFIXES
from refine.report.runs import Run, check_comparable

NUM_RESAMPLES = 2000
"""Enough for the ends of a 95 % interval to move by a few hundredths of its length."""

_PERCENTILES = (2.5, 97.5)
_CHUNK = 250  # resamples; at 5000 images their weights take 10 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A quantity with its 95 % percentile interval.

    Attributes:
        value: Over the images as they are.
        low: 2.5 % of the resamples lie below.
        high: 2.5 % of the resamples lie above.
    """

    value: float
    low: float
    high: float

    @property
    def includes_zero(self) -> bool:
        """Of a difference: the two runs cannot be told apart by these images."""
        return self.low <= _ROUNDING and self.high >= -_ROUNDING


_ROUNDING = 1e-12  # two sums of the same numbers may differ by as much


@dataclass(frozen=True, slots=True, eq=False)
class Resampled:
    """A run on many resamples of its images.

    Attributes:
        run: The run.
        values: ``pq``, ``pq_things`` and ``pq_stuff`` over the images as they are.
        draws: ``[K]`` of each, over the resamples; entry k of any run on the same images is of the
            same resample.
    """

    run: Run
    values: dict[str, float]
    draws: dict[str, np.ndarray]


def resample(run: Run, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Resampled:
    """Draw resamples of a run's images.

    Args:
        run: With at least one image.
        num_resamples: At least 1.
        seed: Of the resamples; compare only what has the same.
    """
    number = len(run.image_ids)
    weights = draw_weights(number, num_resamples=num_resamples, seed=seed)
    chunks = [compute_pq(run, chunk) for chunk in weights]
    values = {key: float(value[0]) for key, value in compute_pq(run, np.ones((1, number))).items()}
    draws = {key: np.concatenate([chunk[key] for chunk in chunks]) for key in values}
    return Resampled(run, values, draws)


def mean_intervals(runs: Sequence[Resampled]) -> dict[str, Interval]:
    """Intervals of the mean over runs, such as seeds, all on the same resamples.

    Args:
        runs: At least one, on the same images.

    Returns:
        By ``pq``, ``pq_things`` and ``pq_stuff``.

    Raises:
        RefineError: The runs have other images or categories.
    """
    values, draws = _average(runs, runs[0].run)
    return {key: _to_interval(values[key], draws[key]) for key in values}


def difference_intervals(
    first: Sequence[Resampled], second: Sequence[Resampled]
) -> dict[str, Interval]:
    """Intervals of the difference of two means, ``second - first``.

    Drawing the images in pairs leaves out what both find hard, so the interval is narrower than
    those of the means would suggest.

    Args:
        first: At least one run.
        second: At least one run; all of both on the same images.

    Returns:
        By ``pq``, ``pq_things`` and ``pq_stuff``.

    Raises:
        RefineError: The runs have other images or categories.
    """
    before, draws_before = _average(first, first[0].run)
    after, draws_after = _average(second, first[0].run)
    return {
        key: _to_interval(after[key] - before[key], draws_after[key] - draws_before[key])
        for key in before
    }


def bootstrap_run(
    run: Run, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """Intervals of one run, as :func:`mean_intervals`."""
    return mean_intervals([resample(run, num_resamples=num_resamples, seed=seed)])


def bootstrap_difference(
    first: Run, second: Run, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """Intervals of ``second - first``, as :func:`difference_intervals`.

    Raises:
        RefineError: The runs have other images or categories.
    """
    check_comparable(first, second)
    before, after = (resample(r, num_resamples=num_resamples, seed=seed) for r in (first, second))
    return difference_intervals([before], [after])


def compute_pq(run: Run, weights: np.ndarray) -> dict[str, np.ndarray]:
    """PQ over images that count several times or not at all.

    As everywhere, a category without any segment in a resample enters no average, and a group
    without such categories gives 0.

    Args:
        run: With ``N`` images.
        weights: ``[K, N]`` float64, how often each image counts in each of K resamples.

    Returns:
        ``[K]`` fractions by ``pq``, ``pq_things`` and ``pq_stuff``.
    """
    iou, halves = weights @ run.iou, weights @ run.halves  # [K, C]
    is_present = halves > 0
    quality = np.divide(iou, halves, out=np.zeros_like(iou), where=is_present)
    num_things = run.categories.num_things
    columns = {"all": slice(None), "things": slice(num_things), "stuff": slice(num_things, None)}
    return {
        f"pq{suffix}": quality[:, columns[group]].sum(axis=1)
        / np.maximum(is_present[:, columns[group]].sum(axis=1), 1)
        for group, suffix in GROUP_SUFFIXES.items()
    }


def draw_weights(num_images: int, *, num_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image is drawn (multinomial), a chunk of resamples at a time.

    Args:
        num_images: ``N``, at least 1.
        num_resamples: At least 1.
        seed: The same seed and numbers give the same weights.

    Yields:
        ``[K, N]`` float64; each row sums to N.

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


def _average(
    runs: Sequence[Resampled], other: Run
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Means over the runs, which must be comparable to the other one."""
    for resampled in runs:
        check_comparable(other, resampled.run)
    keys = runs[0].values
    values = {key: math.fsum(r.values[key] for r in runs) / len(runs) for key in keys}
    return values, {key: np.mean([r.draws[key] for r in runs], axis=0) for key in keys}


def _to_interval(value: float, draws: np.ndarray) -> Interval:
    low, high = np.percentile(draws, _PERCENTILES)
    return Interval(value=value, low=float(low), high=float(high))


def mean_and_standard_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and the standard error that the spread of the values gives it.

    Args:
        values: At least one.

    Returns:
        Both; the standard error of a single value is NaN, since nothing is known of it.

    Raises:
        ValueError: No values.
    """
    if not values:
        raise ValueError("the mean of no values")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, math.nan
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))
