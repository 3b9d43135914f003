"""The dashboard script: dry without anything, and as W&B's own objects."""

import json
import sys

import pytest

from make.scripts import load_script
from refine.callbacks.wandb_media import DECISIONS_KEY, ITERATIONS_KEY, PANOPTIC_KEY
from refine.callbacks.wandb_run import STEP_KEY, TABLE_KEY
from refine.report.dashboard import KINDS, STEP, describe_dashboard

script = load_script("wandb_dashboard")


@pytest.fixture
def without_w_and_b(monkeypatch):
    for name in ("wandb", "wandb_workspaces"):
        for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, name, None)


def test_a_dry_run_needs_no_library(without_w_and_b, capsys):
    assert script.main(["me/refine", "--dry-run", "--group", "g"]) == 0
    specification = json.loads(capsys.readouterr().out)
    assert specification["group"] == "g"
    assert specification["sections"]


def test_without_the_library_there_is_one_clear_line(without_w_and_b, capsys):
    assert script.main(["me/refine"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'refine-panoptic[wandb]'" in line


def test_a_path_that_is_none_is_one_clear_line(capsys):
    assert script.main(["refine"]) == 1
    assert capsys.readouterr().err.startswith("error: refine: expected ENTITY/PROJECT")


def test_the_dashboard_asks_for_what_is_logged():
    dashboard = describe_dashboard("me/refine", name="A")
    keys = {k for s in dashboard.sections for p in s.panels for k in p.keys}
    assert {PANOPTIC_KEY, DECISIONS_KEY, ITERATIONS_KEY, TABLE_KEY} <= keys
    assert STEP == STEP_KEY
    assert {p.kind for s in dashboard.sections for p in s.panels} == set(KINDS)


def test_the_library_takes_every_panel():
    pytest.importorskip("wandb_workspaces", reason="the wandb extra is not installed")
    dashboard = describe_dashboard("me/refine", name="A", group="g")
    view = script.build_workspace(dashboard)._to_model()
    section = json.loads(view.spec.model_dump_json(by_alias=True))["section"]
    built = section["panelBankConfig"]["sections"]
    assert [s["name"] for s in built] == [s.name for s in dashboard.sections]
    assert [len(s["panels"]) for s in built] == [len(s.panels) for s in dashboard.sections]
    text = json.dumps(section)
    for wanted in ("row.value", "config:fusion.value.relations.sigma", "summary:val/pq_things"):
        assert wanted in text
    assert section["runSets"][0]["filters"]["filters"][0]["value"] == "g"
