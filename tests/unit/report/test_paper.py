"""The paper's tables as data, and which runs belong to their rows."""

import pandas as pd
import pytest

from make.runs import make_config, write_unfinished
from refine.report.collect import matches, read_runs
from refine.report.paper import load_tables, read_content

TABLES = load_tables().values()
T3 = {"iterations": 3, "cascade": True}
STRONG = {"kind": "occlusion", "head": "strong"}
SOFT = {"kind": "soft_occlusion", "head": "strong"}
SETTINGS = {
    (3, "Panoptic-FPN"): {"iterations": 0, "cascade": False},
    (3, "+ IBPP"): T3,
    (3, "+ IBPP + SOE"): {"relations": SOFT},
    (3, "+ IBPP + SOE + UE"): {"relations": SOFT, "erasing": {"mode": "score"}},
    (3, "+ IBPP + UE, no SOE"): {"erasing": {"mode": "score"}},
    (3, "+ IBPP + UE by an oracle"): {"erasing": {"mode": "oracle"}},
    (4, "T = 0, box cascade alone"): {"iterations": 0, "cascade": True},
    (4, "T = 1"): {"iterations": 1},
    (4, "T = 2"): {"iterations": 2},
    (4, "T = 3, semantics to instances only"): {"ibpp": {"direction": "sem_to_ins"}},
    (4, "T = 3, instances to semantics only"): {"ibpp": {"direction": "ins_to_sem"}},
    (4, "T = 3, only features cross"): {"ibpp": {"carry": "features"}},
    (4, "T = 3, only predictions cross"): {"ibpp": {"carry": "predictions"}},
    (5, "smaller mask on top"): {"relations": {"kind": "area"}},
    (5, "spatial hierarchy (SHR)"): {"relations": {"kind": "shr"}},
    (5, "ranking module (SRM)"): {"relations": {"kind": "srm", "head": "srm"}},
    (5, "true order (oracle)"): {"relations": {"kind": "oracle"}},
    (5, "category-pair statistics"): {"relations": {"kind": "occlusion", "head": "category"}},
    (5, "OCFusion"): {"relations": {"kind": "occlusion", "head": "ocfusion"}},
    (5, "Strong Baseline"): {"relations": STRONG},
    (5, "SOE, sigma 2.0"): {"relations": {**SOFT, "sigma": 2.0}},
    (5, "SOE, sigma 2.5"): {"relations": SOFT},
    (5, "SOE, sigma 4.0"): {"relations": {**SOFT, "sigma": 4.0}},
    (6, "mask"): {"relations": {"kind": "occlusion", "head": "mask"}},
    (6, "feature alone"): {"relations": {"kind": "occlusion", "head": "feature"}},
    (6, "label alone"): {"relations": {"kind": "occlusion", "head": "label"}},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run for every entry of SETTINGS, and some that belong nowhere."""
    root = tmp_path_factory.mktemp("runs")
    for k, changes in enumerate(SETTINGS.values()):
        write_unfinished(root / f"{k:02}", make_config(**changes))
    own = {"strong": {"use_mask": True, "use_feature": True, "use_label": False}}
    others = {
        "trained heads": make_config(relations=STRONG, occlusion={"heads": own}),
        "unknown head": make_config(relations={"kind": "occlusion", "head": "mine"}),
        "no network": {"seed": 0, "gt_json": "a.json"},
    }
    for name, config in others.items():
        write_unfinished(root / name, config)
    return read_runs([root])[0]


def test_runs_belong_to_their_row_and_to_no_other_of_its_table(runs):
    for table in TABLES:
        for row in table.rows:
            if table.number < 3 or row.settings is None or row.backbone != table.backbone:
                continue
            found = runs[matches(runs, row.settings)]
            names = {name.rpartition("/")[2] for name in found["name"]}
            own = {f"{k:02}" for k, key in enumerate(SETTINGS) if key == (table.number, row.label)}
            assert own <= names, row.label
            assert not names & {"unknown head", "no network"}
            assert ("trained heads" in names) == (row.label in ("OCFusion", "mask + feature"))
            takes_any = any(word in row.label for word in ("+ IBPP + SOE", "OCFusion"))
            assert takes_any or not own or found["configuration"].nunique() == 1, row.label


def test_the_file_is_consistent():
    assert [table.number for table in TABLES] == [1, 2, 3, 4, 5, 6]
    for table in TABLES:
        labels = [row.label for row in table.rows]
        assert table.reference in labels
        assert {row.adds_to for row in table.rows} - {None} <= set(labels)
        assert set(table.columns) <= read_content()["columns"].keys()
        own = [str((r.backbone, r.settings)) for r in table.rows if r.settings is not None]
        assert len(set(own)) == len(own)
        for row in table.rows:
            assert set(row.misprints) <= row.printed.keys() <= set(table.columns)
            assert row.settings is None or row.backbone is not None


def test_printed_qualities_agree_with_their_parts_unless_marked():
    """COCO has 80 things and 53 stuff categories."""
    rows = [row for table in TABLES for row in table.rows if row.settings is not None]
    printed = pd.DataFrame([dict(row.printed) for row in rows]).dropna(subset=["pq", "pq_stuff"])
    implied = (80 * printed["pq_things"] + 53 * printed["pq_stuff"]) / 133
    is_right = (implied - printed["pq"]).abs() <= 0.15
    assert is_right.tolist() == ["pq" not in rows[k].misprints for k in printed.index]
    assert len(printed) >= 12
