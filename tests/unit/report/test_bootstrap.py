import math

import numpy as np
import pytest

from make.runs import make_categories, make_images, write_run
from oracles.pq import average
from refine.errors import RefineError
from refine.metrics.functional import PanopticStats
from refine.report.bootstrap import (
    Interval,
    compare,
    compute_intervals,
    draw_weights,
    resample,
)
from refine.report.finished_run import read_run

CATEGORIES = make_categories(3, 2)
GROUPS = {"pq": range(5), "pq_things": range(3), "pq_stuff": range(3, 5)}


def make_run(folder, images, categories=CATEGORIES):
    return read_run(write_run(folder, images, categories))


def pq_by_loops(images, counts):
    """PQ of a bag of images: every copy of an image is added up on its own."""
    sums = [[0.0, 0, 0, 0] for _ in range(5)]
    for image_id, count in zip(sorted(images), counts, strict=True):
        for _ in range(int(count)):
            image = images[image_id]
            for k in range(5):
                for place, name in enumerate(("iou", "tp", "fp", "fn")):
                    sums[k][place] += getattr(image, name)[k]
    return {key: average(sums, chosen)[0] for key, chosen in GROUPS.items()}


def percentile_by_sorting(values, percent):
    ordered = sorted(values)
    position = percent / 100 * (len(ordered) - 1)
    below = ordered[math.floor(position)]
    return below + (position % 1) * (ordered[math.ceil(position)] - below)


@pytest.mark.parametrize("share", [0.1, 0.6])  # .1: categories are missing in many resamples
def test_difference_equals_the_obvious_bootstrap(tmp_path, share):
    before, after = (make_images(7, 5, seed=s, share=share) for s in (1, 2))
    runs = make_run(tmp_path / "a", before), make_run(tmp_path / "b", after)
    intervals = compare(*runs, num_resamples=300, seed=5)

    weights = np.concatenate([*draw_weights(7, num_resamples=300, seed=5)])
    resamples = [(pq_by_loops(before, row), pq_by_loops(after, row)) for row in weights]
    once = pq_by_loops(before, [1] * 7), pq_by_loops(after, [1] * 7)
    for key, interval in intervals.items():
        differences = [b[key] - a[key] for a, b in resamples]
        assert interval.value == pytest.approx(once[1][key] - once[0][key], abs=1e-12)
        assert interval.low == pytest.approx(percentile_by_sorting(differences, 2.5), abs=1e-12)
        assert interval.high == pytest.approx(percentile_by_sorting(differences, 97.5), abs=1e-12)
        assert interval.low < interval.high


def test_a_single_run_equals_the_obvious_bootstrap(tmp_path):
    images = make_images(6, 5, seed=3)
    run = make_run(tmp_path, images)
    intervals = compute_intervals([resample(run, num_resamples=260, seed=1)])  # a chunk and a bit
    weights = np.concatenate([*draw_weights(6, num_resamples=260, seed=1)])
    assert len(weights) == 260
    for key, interval in intervals.items():
        values = [pq_by_loops(images, row)[key] for row in weights]
        assert interval.low == pytest.approx(percentile_by_sorting(values, 2.5), abs=1e-12)
        assert interval.high == pytest.approx(percentile_by_sorting(values, 97.5), abs=1e-12)
        assert interval.value == pytest.approx(run.metrics[key], abs=1e-12)


def test_weights_are_draws_with_replacement():
    weights = np.concatenate([*draw_weights(40, num_resamples=1000, seed=0)])
    assert weights.shape == (1000, 40)
    assert (weights.sum(axis=1) == 40).all()
    # multinomial: mean 1, variance 1 - 1/40, covariance -1/40
    covariance = np.cov(weights.T)
    assert np.diag(covariance).mean() == pytest.approx(1 - 1 / 40, rel=0.03)
    assert covariance[~np.eye(40, dtype=bool)].mean() == pytest.approx(-1 / 40, rel=0.03)
    assert abs(weights.mean(axis=0) - 1).max() < 0.2


def test_the_seed_decides():
    first, same, other = (
        np.concatenate([*draw_weights(20, num_resamples=300, seed=s)]) for s in (1, 1, 2)
    )
    assert (first == same).all()
    assert (first != other).any()


def test_a_run_better_on_every_image_can_be_told_apart(tmp_path):
    ones, zeros = np.ones(5, int), np.zeros(5, int)
    before = {k: PanopticStats(0.6 * ones, ones, zeros, zeros) for k in range(8)}
    after = {k: PanopticStats(0.8 * ones, ones, zeros, zeros) for k in range(8)}
    runs = make_run(tmp_path / "a", before), make_run(tmp_path / "b", after)
    for interval in compare(*runs, num_resamples=50).values():
        assert (interval.low, interval.high) == (pytest.approx(0.2), pytest.approx(0.2))
        assert not interval.includes_zero


def test_pairing_narrows_the_interval(tmp_path):
    before = make_images(60, 5, seed=1)
    after = {k: PanopticStats(0.98 * s.iou, s.tp, s.fp, s.fn) for k, s in before.items()}
    runs = make_run(tmp_path / "a", before), make_run(tmp_path / "b", after)
    paired = compare(*runs, num_resamples=200)["pq"]
    single = compute_intervals([resample(runs[0], num_resamples=200)])["pq"]
    assert paired.high < 0
    assert paired.high - paired.low < 0.1 * (single.high - single.low)


def test_groups_and_images_without_segments_give_0(tmp_path):
    images = {1: PanopticStats.zeros(2), 2: PanopticStats.zeros(2)}
    run = make_run(tmp_path, images, make_categories(2, 0))
    for interval in compute_intervals([resample(run, num_resamples=20)]).values():
        assert interval == Interval(value=0.0, low=0.0, high=0.0)


@pytest.mark.parametrize(("num_images", "num_resamples"), [(0, 1), (1, 0)])
def test_nothing_to_draw_is_refused(num_images, num_resamples):
    with pytest.raises(ValueError, match="both must be positive"):
        next(draw_weights(num_images, num_resamples=num_resamples, seed=0))


def test_means_over_seeds_are_drawn_together(tmp_path):
    """The obvious way: PQ of every run on every resample, then means, then percentiles."""
    counts = [make_images(6, 5, seed=s, share=0.6) for s in range(4)]
    runs = [make_run(tmp_path / str(k), images) for k, images in enumerate(counts)]
    drawn = [resample(run, num_resamples=200, seed=3) for run in runs]
    weights = np.concatenate([*draw_weights(6, num_resamples=200, seed=3)])
    table = [[pq_by_loops(images, row) for row in weights] for images in counts]
    key = "pq_things"
    means = [(table[0][k][key] + table[1][k][key]) / 2 for k in range(200)]
    interval = compute_intervals(drawn[:2])[key]
    assert interval.value == pytest.approx((drawn[0].values[key] + drawn[1].values[key]) / 2)
    assert interval.low == pytest.approx(percentile_by_sorting(means, 2.5), abs=1e-12)
    others = [(table[2][k][key] + table[3][k][key]) / 2 for k in range(200)]
    differences = [b - a for a, b in zip(means, others, strict=True)]
    interval = compute_intervals(drawn[2:], minus=drawn[:2])[key]
    assert interval.high == pytest.approx(percentile_by_sorting(differences, 97.5), abs=1e-12)


def test_means_over_other_images_are_refused(tmp_path):
    runs = [make_run(tmp_path / str(k), make_images(3 + k, 5, seed=0)) for k in range(2)]
    drawn = [resample(run, num_resamples=5) for run in runs]
    with pytest.raises(RefineError, match="different images"):
        compute_intervals(drawn)
    with pytest.raises(RefineError, match="different images"):
        compute_intervals(drawn[1:], minus=drawn[:1])


def test_intervals_as_text():
    interval = Interval(value=-0.01, low=-0.0234, high=0.0)
    assert interval.format() == "-1.0 [-2.3, +0.0]"
    assert interval.format(sign="", decimals=2) == "-1.00 [-2.34, 0.00]"


def test_rounding_is_no_difference():
    assert Interval(value=-1e-17, low=-2e-17, high=-1e-17).includes_zero
    assert not Interval(value=-2e-6, low=-3e-6, high=-1e-6).includes_zero
