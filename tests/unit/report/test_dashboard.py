"""The dashboard shows what runs log."""

import json

import pytest

from refine.errors import RefineError
from refine.report.dashboard import Panel, describe_dashboard


def panels(dashboard):
    return [panel for section in dashboard.sections for panel in section.panels]


def test_it_holds_rows_curves_categories_and_pictures():
    found = panels(describe_dashboard("me/refine", name="A"))
    shown = {(p.kind, p.by, p.keys[0]) for p in found}
    assert ("bars", "row", "val/pq") in shown
    assert ("scatter", "fusion.relations.sigma", "val/pq_things") in shown
    assert ("scatter", "fusion.unknown_erasing.score_thresh", "val/pq_stuff") in shown
    assert ("category_bars", None, "val/per_category") in shown
    assert {k for p in found if p.kind == "media" for k in p.keys} == {
        "pictures/panoptic", "pictures/decisions", "pictures/iterations",
    }  # fmt: skip


def test_its_specification_is_json():
    dashboard = describe_dashboard("me/refine", name="A", group="sweep_sigma")
    specification = json.loads(json.dumps(dashboard.to_json()))
    assert (specification["entity"], specification["project"]) == ("me", "refine")
    assert specification["group"] == "sweep_sigma"
    assert specification["sections"][0]["name"] == "Rows of the ablation"


@pytest.mark.parametrize("path", ["refine", "/refine", "me/", "a/b/c", ""])
def test_a_path_that_is_none_is_refused(path):
    with pytest.raises(RefineError, match="ENTITY/PROJECT"):
        describe_dashboard(path, name="A")


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="pie"):
        Panel(kind="pie", title="", keys=())
