"""The categories of COCO 2017 panoptic, for networks that come without a dataset."""

import json
from functools import cache
from importlib.resources import files

from refine.categories import CategoryTable

_FILE = "coco_panoptic_categories.json"


@cache
def coco_categories() -> CategoryTable:
    """80 things and 53 stuff, as ``panoptic_val2017.json`` lists them."""
    text = files("refine.coco_format").joinpath(_FILE).read_text(encoding="utf-8")
    return CategoryTable.of(json.loads(text), source=_FILE)
