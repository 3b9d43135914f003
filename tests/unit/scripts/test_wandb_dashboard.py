"""The dashboard script: dry without anything, and as W&B's own objects."""

import json
import sys

import pytest

from make.commands import load_script
from refine.callbacks.wandb_media import DECISIONS_KEY, ITERATIONS_KEY, PANOPTIC_KEY
from refine.callbacks.wandb_run import STEP_KEY, TABLE_KEY

script = load_script("wandb_dashboard")


def test_only_a_dry_run_needs_no_library(monkeypatch, capsys):
    for module in [m for m in sys.modules if m.partition(".")[0].startswith("wandb")]:
        monkeypatch.delitem(sys.modules, module)
    for name in ("wandb", "wandb_workspaces"):
        monkeypatch.setitem(sys.modules, name, None)
    assert script.main(["me/refine", "--dry-run", "--group", "g"]) == 0
    specification = json.loads(capsys.readouterr().out)
    assert (specification["entity"], specification["group"]) == ("me", "g")
    assert next(iter(specification["sections"])) == "Rows of the ablation"
    assert script.main(["me/refine"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'refine-panoptic[wandb]'" in line


@pytest.mark.parametrize("path", ["refine", "/refine", "me/", "a/b/c", ""])
def test_a_path_that_is_none_is_one_clear_line(path, capsys):
    assert script.main([path]) == 1
    assert capsys.readouterr().err.startswith(f"error: {path}: expected ENTITY/PROJECT")


def test_the_dashboard_asks_for_what_is_logged():
    panels = [panel for section in script.CHARTS["sections"].values() for panel in section]
    shown = {(p["kind"], p.get("by"), key) for p in panels for key in p["keys"]}
    for kind, by, key in (
        ("bars", "row", "val/pq"),
        ("scatter", "fusion.relations.sigma", "val/pq_things"),
        ("scatter", "fusion.unknown_erasing.score_thresh", "val/pq_stuff"),
        ("category_bars", None, TABLE_KEY),
        *(("media", None, key) for key in (PANOPTIC_KEY, DECISIONS_KEY, ITERATIONS_KEY)),
    ):
        assert (kind, by, key) in shown
    assert script.CHARTS["step"] == STEP_KEY


def test_the_library_takes_every_panel():
    pytest.importorskip("wandb_workspaces", reason="the wandb extra is not installed")
    sections = script.CHARTS["sections"]
    place = {"entity": "me", "project": "refine"}
    view = script.build_workspace(place, "A", group="g")._to_model()
    section = json.loads(view.spec.model_dump_json(by_alias=True))["section"]
    built = section["panelBankConfig"]["sections"]
    assert {s["name"]: len(s["panels"]) for s in built} == {k: len(v) for k, v in sections.items()}
    text = json.dumps(section)
    for wanted in ("row.value", "config:fusion.value.relations.sigma", "summary:val/pq_things"):
        assert wanted in text
    assert section["runSets"][0]["filters"]["filters"][0]["value"] == "g"
