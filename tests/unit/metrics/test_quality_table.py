import csv
import io

import numpy as np

from refine.categories import Category, CategoryTable
from refine.metrics.functional import PanopticStats, average_quality
from refine.metrics.quality_table import category_rows, to_cells, to_csv

CATEGORIES = CategoryTable(
    [
        Category(dataset_id=200, name='rug, "merged"', is_thing=False, color=(0, 0, 0)),
        Category(dataset_id=5, name="cat", is_thing=True, color=(0, 0, 0)),
    ]
)
STATS = PanopticStats(
    iou=np.array([2.0 / 3, 0.0]), tp=np.array([1, 0]), fp=np.array([0, 0]), fn=np.array([1, 0])
)


def test_csv_has_the_promised_columns_and_loses_nothing():
    text = to_csv(category_rows(STATS, CATEGORIES))
    assert text.splitlines()[0] == "category_id,name,isthing,pq,sq,rq,iou,tp,fp,fn"
    cat, rug = csv.DictReader(io.StringIO(text))
    assert (cat["category_id"], cat["name"], cat["isthing"]) == ("5", "cat", "1")
    assert float(cat["iou"]) == 2.0 / 3
    assert float(cat["pq"]) == 2.0 / 3 / 1.5
    assert (cat["tp"], cat["fp"], cat["fn"]) == ("1", "0", "1")
    assert (rug["category_id"], rug["name"], rug["pq"]) == ("200", 'rug, "merged"', "0.0")


def test_table_prints_percents_and_dashes_for_nothing():
    assert to_cells(average_quality(STATS, num_things=1)) == [
        ("All", "44.4", "66.7", "66.7", "1"),
        ("Things", "44.4", "66.7", "66.7", "1"),
        ("Stuff", "-", "-", "-", "0"),
    ]
