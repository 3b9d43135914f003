import numpy as np
import pytest

from make.runs import make_categories, make_images, make_run
from oracles.pq import average
from refine.metrics.functional import PanopticStats
from refine.report.bootstrap import Interval, compare, compute_intervals, draw_weights, resample

GROUPS = {"pq": range(5), "pq_things": range(3), "pq_stuff": range(3, 5)}


def pq_by_loops(images, counts):
    """PQ of a bag of images: every copy of an image is added up on its own."""
    sums = [[0.0, 0, 0, 0] for _ in range(5)]
    for image, count in zip(images.values(), counts, strict=True):
        for k in range(5 * int(count)):
            for place, name in enumerate(("iou", "tp", "fp", "fn")):
                sums[k % 5][place] += getattr(image, name)[k % 5]
    return {key: average(sums, chosen)[0] for key, chosen in GROUPS.items()}


@pytest.mark.parametrize("share", [0.1, 0.6])  # .1: categories are missing in many resamples
@pytest.mark.parametrize(("number", "num_minus"), [(1, 0), (1, 1), (2, 2)])
def test_intervals_equal_the_obvious_bootstrap(tmp_path, share, number, num_minus):
    """PQ of every run on every resample, then means over runs, then percentiles."""
    counts = [make_images(7, 5, seed=s, share=share) for s in range(number + num_minus)]
    runs = [make_run(tmp_path / str(k), images) for k, images in enumerate(counts)]
    drawn = [resample(run, num_resamples=260, seed=3) for run in runs]  # a chunk and a bit
    intervals = compute_intervals(drawn[:number], minus=drawn[number:])
    weights = np.concatenate([*draw_weights(7, num_resamples=260, seed=3)])
    assert weights.shape == (260, 7)
    table = [[pq_by_loops(images, row) for row in (np.ones(7), *weights)] for images in counts]
    for key, interval in intervals.items():
        values = np.array([[pq[key] for pq in of_run] for of_run in table])
        own = values[:number].mean(axis=0) - (values[number:].mean(axis=0) if num_minus else 0)
        ends = np.interp([0.025 * 259, 0.975 * 259], range(260), sorted(own[1:]))
        assert interval == pytest.approx((own[0], *ends), abs=1e-12)

    assert intervals["pq"].low < intervals["pq"].high
    assert runs[0].metrics["pq"] == pytest.approx(drawn[0].values["pq"], abs=1e-12)


def test_weights_are_draws_with_replacement_that_the_seed_decides():
    weights, same, other = (
        np.concatenate([*draw_weights(40, num_resamples=1000, seed=s)]) for s in (0, 0, 1)
    )
    assert (weights == same).all()
    assert (weights != other).any()
    assert (weights.sum(axis=1) == 40).all()
    # multinomial: mean 1, variance 1 - 1/40, covariance -1/40
    covariance = np.cov(weights.T)
    assert np.diag(covariance).mean() == pytest.approx(1 - 1 / 40, rel=0.03)
    assert covariance[~np.eye(40, dtype=bool)].mean() == pytest.approx(-1 / 40, rel=0.03)
    assert abs(weights.mean(axis=0) - 1).max() < 0.2


@pytest.mark.parametrize(("num_images", "num_resamples"), [(0, 1), (1, 0)])
def test_nothing_to_draw_is_refused(num_images, num_resamples):
    with pytest.raises(ValueError, match="both must be positive"):
        next(draw_weights(num_images, num_resamples=num_resamples, seed=0))


def test_pairing_narrows_the_interval(tmp_path):
    before = make_images(60, 5, seed=1)
    after = {k: PanopticStats(0.98 * s.iou, s.tp, s.fp, s.fn) for k, s in before.items()}
    runs = make_run(tmp_path / "a", before), make_run(tmp_path / "b", after)
    paired = compare(*runs, num_resamples=200)["pq"]
    single = compute_intervals([resample(runs[0], num_resamples=200)])["pq"]
    assert paired.high < 0
    assert not paired.includes_zero
    assert paired.high - paired.low < 0.1 * (single.high - single.low)


def test_groups_and_images_without_segments_give_0(tmp_path):
    images = {1: PanopticStats.zeros(2), 2: PanopticStats.zeros(2)}
    run = make_run(tmp_path, images, make_categories(2, 0))
    assert {*compute_intervals([resample(run, num_resamples=20)]).values()} == {(0.0, 0.0, 0.0)}


def test_intervals_as_text_and_rounding_is_no_difference():
    interval = Interval(value=-0.01, low=-0.0234, high=0.0)
    assert interval.format() == "-1.0 [-2.3, +0.0]"
    assert interval.format(sign="", decimals=2) == "-1.00 [-2.34, 0.00]"
    assert Interval(value=-1e-17, low=-2e-17, high=-1e-17).includes_zero
    assert not Interval(value=-2e-6, low=-3e-6, high=-1e-6).includes_zero
