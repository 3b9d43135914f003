import numpy as np
import pytest

from refine.categories import CategoryTable
from refine.errors import RefineError
from refine.metrics.functional import PanopticStats
from refine.metrics.records import (
    NOTHING,
    RECORD_DTYPE,
    records_from_csv,
    records_to_csv,
    sort_records,
    sum_records,
    to_records,
)

CATEGORIES = CategoryTable.of(
    [
        {"id": 7, "name": "cat", "isthing": 1},
        {"id": 9, "name": "dog", "isthing": 1},
        {"id": 3, "name": "sky", "isthing": 0},
    ]
)
SUMS = ("iou", "tp", "fp", "fn")


def stats(iou, tp, fp, fn):
    return PanopticStats(np.array(iou), np.array(tp), np.array(fp), np.array(fn))


def random_stats(seed):
    rng = np.random.default_rng(seed)
    tp, fp, fn = rng.integers(0, 3, (3, 3))
    return PanopticStats(rng.uniform(0.5, 1, 3) * tp, tp, fp, fn)


def test_only_categories_with_anything_in_them_are_kept():
    records = to_records(42, stats([0.0, 0.0, 0.75], [0, 0, 1], [2, 0, 0], [0, 0, 1]))
    assert records.dtype == RECORD_DTYPE
    assert records.tolist() == [(42, 0, 0.0, 0, 2, 0), (42, 2, 0.75, 1, 0, 1)]


def test_an_image_with_nothing_in_it_is_still_known():
    records = to_records(42, PanopticStats.zeros(3))
    assert records.tolist() == [(42, NOTHING, 0.0, 0, 0, 0)]
    total = sum_records(records, 3)
    assert not any(getattr(total, name).any() for name in SUMS)


def test_records_sum_to_exactly_the_table():
    images = [random_stats(seed) for seed in range(30)]
    direct = sum(images, PanopticStats.zeros(3))
    records = np.concatenate([to_records(k, image) for k, image in enumerate(images)])
    total = sum_records(records, 3)
    assert all((getattr(total, name) == getattr(direct, name)).all() for name in SUMS)


def test_order_does_not_tell_who_evaluated_what():
    parts = [to_records(k, random_stats(k)) for k in range(6)]
    gathered = np.concatenate(parts[1::2] + parts[::2])
    assert (sort_records(gathered) == np.concatenate(parts)).all()


def test_csv_round_trip_loses_nothing():
    parts = [to_records(10_000_001 + k, random_stats(k)) for k in range(5)]
    records = np.concatenate([*parts, to_records(3, PanopticStats.zeros(3))])
    text = records_to_csv(records, CATEGORIES)
    assert (records_from_csv(text, CATEGORIES, source="f") == records).all()
    header = records_to_csv(records[:0], CATEGORIES)
    assert len(records_from_csv(header, CATEGORIES, source="f")) == 0


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
