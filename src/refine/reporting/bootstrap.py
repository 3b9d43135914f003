"""How sure a panoptic quality is: intervals over images, spreads over seeds.

The bootstrap draws as many images as there are, with replacement, and computes PQ anew, so an
interval says what other images of the same kind would give. It knows nothing of what another
training seed would give; for that there is :func:`mean_and_standard_error` over seeds.

A category that few images have is missing in many resamples and then enters no average, so on a
handful of images the interval can lie lopsided around the value. Differences suffer less.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from refine.metrics.functional import GROUP_SUFFIXES
from refine.reporting.runs import Run, check_comparable

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
        return self.low <= 0 <= self.high


def bootstrap_run(
    run: Run, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """Intervals of ``pq``, ``pq_things`` and ``pq_stuff`` of one run.

    Args:
        run: With at least one image.
        num_resamples: At least 1.
        seed: Of the resamples.
    """
    weights = draw_weights(len(run.image_ids), num_resamples=num_resamples, seed=seed)
    return _bootstrap(lambda w: compute_pq(run, w), len(run.image_ids), weights=weights)


def bootstrap_difference(
    first: Run, second: Run, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """Intervals of the differences ``second - first``, both on the same resamples.

    Drawing the images in pairs leaves out what both runs find hard, so the interval is narrower
    than those of the single runs would suggest.

    Args:
        first: A run.
        second: Another run, on the same images.
        num_resamples: At least 1.
        seed: Of the resamples.

    Returns:
        By ``pq``, ``pq_things`` and ``pq_stuff``.

    Raises:
        RefineError: The runs have other images or categories.
    """
    check_comparable(first, second)

    def compute_difference(weights: np.ndarray) -> dict[str, np.ndarray]:
        before, after = compute_pq(first, weights), compute_pq(second, weights)
        return {key: after[key] - before[key] for key in before}

    weights = draw_weights(len(first.image_ids), num_resamples=num_resamples, seed=seed)
    return _bootstrap(compute_difference, len(first.image_ids), weights=weights)


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


def _bootstrap(
    compute: Callable[[np.ndarray], dict[str, np.ndarray]],
    num_images: int,
    *,
    weights: Iterator[np.ndarray],
) -> dict[str, Interval]:
    chunks = [compute(chunk) for chunk in weights]
    intervals = {}
    for key, value in compute(np.ones((1, num_images))).items():
        low, high = np.percentile(np.concatenate([chunk[key] for chunk in chunks]), _PERCENTILES)
        intervals[key] = Interval(value=float(value[0]), low=float(low), high=float(high))
    return intervals


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
