import numpy as np
import pytest

from refine.categories import Category, CategoryTable
from refine.errors import RefineError
from refine.metrics.functional import PanopticStats, average_quality, match_segments
from refine.metrics.records import (
    NOTHING,
    RECORD_DTYPE,
    records_from_csv,
    records_to_csv,
    sort_records,
    sum_records,
    to_records,
)
from refine.types import GroundTruth, Segment

CATEGORIES = CategoryTable(
    [
        Category(dataset_id=7, name="cat", is_thing=True, color=(0, 0, 0)),
        Category(dataset_id=9, name="dog", is_thing=True, color=(0, 0, 0)),
        Category(dataset_id=3, name="sky", is_thing=False, color=(0, 0, 0)),
    ]
)


def random_stats(seed):
    """An image matched for real: shifted copies of random blocks."""
    rng = np.random.default_rng(seed)
    true_map = np.kron(rng.integers(0, 5, (4, 4)), np.ones((3, 3), int)).astype(np.int32)
    pred_map = np.roll(true_map, rng.integers(0, 2), axis=1)

    def segments(segment_map):
        ids, areas = np.unique(segment_map[segment_map > 0], return_counts=True)
        return [
            Segment(id=i, category=i % 3, is_thing=i % 3 < 2, area=a)
            for i, a in zip(ids.tolist(), areas.tolist(), strict=True)
        ]

    prediction, truth = (
        GroundTruth(segment_map=m, segments=tuple(segments(m))) for m in (pred_map, true_map)
    )
    return match_segments(prediction, truth, num_categories=3)


def stats(iou, tp, fp, fn):
    return PanopticStats(np.array(iou), np.array(tp), np.array(fp), np.array(fn))


def test_only_categories_with_anything_in_them_are_kept():
    records = to_records(42, stats([0.0, 0.0, 0.75], [0, 0, 1], [2, 0, 0], [0, 0, 1]))
    assert records.dtype == RECORD_DTYPE
    assert records.tolist() == [(42, 0, 0.0, 0, 2, 0), (42, 2, 0.75, 1, 0, 1)]


def test_an_image_with_nothing_in_it_is_still_known():
    records = to_records(42, PanopticStats.zeros(3))
    assert records.tolist() == [(42, NOTHING, 0.0, 0, 0, 0)]
    total = sum_records(records, 3)
    assert not np.concatenate([total.iou, total.tp, total.fp, total.fn]).any()


def test_records_sum_to_exactly_the_table():
    images = [random_stats(seed) for seed in range(30)]
    direct = sum(images, PanopticStats.zeros(3))
    assert (direct.tp > 0).all()
    assert (direct.fp + direct.fn > 0).any()
    records = np.concatenate([to_records(k, image) for k, image in enumerate(images)])
    total = sum_records(records, 3)
    for name in ("iou", "tp", "fp", "fn"):
        assert (getattr(total, name) == getattr(direct, name)).all(), name
    assert average_quality(total, 2) == average_quality(direct, 2)


def test_csv_round_trip_loses_nothing():
    parts = [to_records(10_000_001 + k, random_stats(k)) for k in range(5)]
    records = np.concatenate([*parts, to_records(3, PanopticStats.zeros(3))])
    text = records_to_csv(records, CATEGORIES)
    assert (records_from_csv(text, CATEGORIES, source="f") == records).all()


def test_csv_speaks_dataset_ids():
    records = to_records(5, stats([2 / 3, 0.0, 0.0], [1, 0, 0], [0, 0, 0], [0, 0, 1]))
    records = np.concatenate([records, to_records(6, PanopticStats.zeros(3))])
    assert records_to_csv(records, CATEGORIES).splitlines() == [
        "image_id,category_id,iou,tp,fp,fn",
        "5,7,0.6666666666666666,1,0,0",
        "5,3,0.0,0,0,1",
        "6,0,0.0,0,0,0",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"f\.csv: the columns must be image_id,"),
        ("image,category\n", r"f\.csv: the columns must be"),
        ("{}1,7,.5,1,0,0\n1,8,.5,1,0,0\n", r"f\.csv: line 3 \(1,8,"),
        ("{}1,7,x,1,0,0\n", r"f\.csv: line 2"),
        ("{}1,7,.5,1,0\n", r"f\.csv: line 2"),
    ],
)
def test_a_broken_csv_is_named(text, message):
    header = "image_id,category_id,iou,tp,fp,fn\n"
    with pytest.raises(RefineError, match=message):
        records_from_csv(text.format(header), CATEGORIES, source="f.csv")


def test_order_does_not_tell_who_evaluated_what():
    parts = [to_records(k, random_stats(k)) for k in range(6)]
    one = np.concatenate(parts)
    gathered = np.concatenate(parts[1::2] + parts[::2])
    assert (sort_records(gathered) == one).all()
