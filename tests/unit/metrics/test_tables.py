"""``per_category.csv``, ``per_image.csv`` and the table on the console."""

import numpy as np
import pytest

from refine.categories import CategoryTable
from refine.errors import RefineError
from refine.metrics import records as r
from refine.metrics.functional import PanopticStats, average_quality
from refine.metrics.quality_table import category_rows, to_cells, to_csv

CATEGORIES = CategoryTable.of(
    [
        {"id": 200, "name": 'rug, "merged"', "isthing": 0},
        {"id": 7, "name": "cat", "isthing": 1},
        {"id": 9, "name": "dog", "isthing": 1},
    ]
)
SUMS = ("iou", "tp", "fp", "fn")
STATS = PanopticStats(*map(np.array, ([2 / 3, 0, 0], [1, 0, 0], [0, 0, 0], [1, 2, 0])))
NOTHING = PanopticStats.zeros(3)


def random_stats(seed):
    rng = np.random.default_rng(seed)
    tp, fp, fn = rng.integers(0, 3, (3, 3))
    return PanopticStats(rng.uniform(0.5, 1, 3) * tp, tp, fp, fn)


def test_a_row_for_each_category_loses_nothing():
    assert to_csv(category_rows(STATS, CATEGORIES)).splitlines() == [
        "category_id,name,isthing,pq,sq,rq,iou,tp,fp,fn",
        f"7,cat,1,{2 / 3 / 1.5},{2 / 3},{1 / 1.5},{2 / 3},1,0,1",
        "9,dog,1,0.0,0.0,0.0,0.0,0,0,2",
        '200,"rug, ""merged""",0,0.0,0.0,0.0,0.0,0,0,0',
    ]


def test_the_console_prints_percents_and_dashes_for_nothing():
    assert to_cells(average_quality(STATS, num_things=2)) == [
        ("All", "22.2", "33.3", "33.3", "2"),
        ("Things", "22.2", "33.3", "33.3", "2"),
        ("Stuff", "-", "-", "-", "0"),
    ]


def test_records_keep_categories_with_anything_in_them_and_images_with_nothing():
    records = np.concatenate([r.to_records(5, STATS), r.to_records(6, NOTHING)])
    assert records.tolist() == [
        (5, 0, 2 / 3, 1, 0, 1),
        (5, 1, 0, 0, 0, 2),
        (6, r.NOTHING, *[0] * 4),
    ]
    assert r.records_to_csv(records, CATEGORIES).splitlines() == [
        "image_id,category_id,iou,tp,fp,fn",
        "5,7,0.6666666666666666,1,0,1",
        "5,9,0.0,0,0,2",
        "6,-1,0.0,0,0,0",
    ]


def test_records_sum_to_exactly_the_table_and_tell_not_who_evaluated_what():
    images = [*map(random_stats, range(30)), NOTHING]
    direct = sum(images, PanopticStats.zeros(3))
    parts = [r.to_records(k, image) for k, image in enumerate(images)]
    records = r.sort_records(np.concatenate(parts[1::2] + parts[::2]))
    assert (records == np.concatenate(parts)).all()
    for some in (records, records[:0]):
        text = r.records_to_csv(some, CATEGORIES)
        assert (r.records_from_csv(text, CATEGORIES, source="f") == some).all()
    total = r.sum_records(records, 3)
    assert all((getattr(total, name) == getattr(direct, name)).all() for name in SUMS)
    assert (total.iou.dtype, total.tp.dtype) == (np.float64, np.int64)


def test_a_category_may_have_id_0_which_stood_for_nothing_before():
    line = "image_id,category_id,iou,tp,fp,fn\n6,{},0.0,0,0,0\n"
    from_zero = CategoryTable.of([{"id": k, "name": f"c{k}", "isthing": 1} for k in (3, 0)])
    for number, table, category in (
        (0, CATEGORIES, r.NOTHING),
        (-1, CATEGORIES, r.NOTHING),
        (0, from_zero, 0),
        (3, from_zero, 1),
        (-1, from_zero, r.NOTHING),
    ):
        read = r.records_from_csv(line.format(number), table, source="f")
        assert read["category"].tolist() == [category]


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
        r.records_from_csv(text.format(header), CATEGORIES, source="f.csv")
