import pytest

from made_up_ablation import make_config
from refine.report.paper import NAMES, TABLES
from refine.report.rows import FUSIONS, NETWORKS, Rule, read_settings

T3 = {"iterations": 3, "cascade": True}
NETWORK_OF = {
    "plain": {"iterations": 0, "cascade": False},
    "cascade": {"iterations": 0, "cascade": True},
    "T=1": {"iterations": 1},
    "T=2": {"iterations": 2},
    "T=3": T3,
    "sem_to_ins": {**T3, "ibpp": {"direction": "sem_to_ins"}},
    "ins_to_sem": {**T3, "ibpp": {"direction": "ins_to_sem"}},
    "features": {**T3, "ibpp": {"carry": "features"}},
    "predictions": {**T3, "ibpp": {"carry": "predictions"}},
}
ERASED = {"mode": "score"}
FUSION_OF = {
    "heuristic": {},
    "area": {"relations": {"kind": "area"}},
    "shr": {"relations": {"kind": "shr"}},
    "srm": {"relations": {"kind": "srm", "head": "srm"}},
    "statistics": {"relations": {"kind": "occlusion", "head": "category"}},
    "oracle": {"relations": {"kind": "oracle"}},
    "mask": {"relations": {"kind": "occlusion", "head": "mask"}},
    "feature": {"relations": {"kind": "occlusion", "head": "feature"}},
    "label": {"relations": {"kind": "occlusion", "head": "label"}},
    "ocfusion": {"relations": {"kind": "occlusion", "head": "ocfusion"}},
    "strong": {"relations": {"kind": "occlusion", "head": "strong"}},
    "soe-2.0": {"relations": {"kind": "soft_occlusion", "head": "strong", "sigma": 2.0}},
    "soe-2.5": {"relations": {"kind": "soft_occlusion", "head": "strong"}},
    "soe-4.0": {"relations": {"kind": "soft_occlusion", "head": "strong", "sigma": 4.0}},
    "ue": {"erasing": ERASED},
    "ue-oracle": {"erasing": {"mode": "oracle"}},
    "soe+ue": {"relations": {"kind": "soft_occlusion", "head": "strong"}, "erasing": ERASED},
}


@pytest.mark.parametrize("name", NETWORK_OF)
def test_a_network_is_known_by_its_configuration_alone(name):
    settings = read_settings(make_config(**NETWORK_OF[name]))
    assert [k for k, accepts in NETWORKS.items() if accepts(settings)] == [name]


@pytest.mark.parametrize("name", FUSION_OF)
def test_a_fusion_is_known_by_its_configuration_alone(name):
    settings = read_settings(make_config(**FUSION_OF[name]))
    accepted = {k for k, accepts in FUSIONS.items() if accepts(settings)}
    assert accepted == {name, "soe"} if name.startswith("soe-") else accepted == {name}


def test_every_name_is_tried():
    assert NETWORK_OF.keys() == NETWORKS.keys()
    assert FUSION_OF.keys() | {"soe"} == FUSIONS.keys()


def test_deformable_convolutions_make_another_backbone():
    plain = read_settings(make_config(backbone="r101"))
    deformable = read_settings(make_config(backbone="r101", dcn=(2, 3, 4)))
    assert (plain.backbone, deformable.backbone) == ("r101", "r101-dcn")
    assert read_settings(make_config(backbone="x101_64x4d")).backbone == "x101"


def test_a_backbone_counts_only_where_it_is_asked_for():
    rule = Rule("r50", "T=3", "heuristic")
    small = read_settings(make_config(backbone="r18"))
    assert not rule.accepts(small, any_backbone=False)
    assert rule.accepts(small, any_backbone=True)


def test_a_training_tells_what_its_own_heads_read():
    heads = {"strong": {"use_mask": True, "use_feature": True, "use_label": False}}
    config = make_config(
        relations={"kind": "occlusion", "head": "strong"}, occlusion={"heads": heads}
    )
    assert read_settings(config).inputs == {"mask", "feature"}


def test_a_head_of_an_unknown_name_is_of_no_row():
    settings = read_settings(make_config(relations={"kind": "occlusion", "head": "mine"}))
    assert not any(accepts(settings) for accepts in FUSIONS.values())


@pytest.mark.parametrize("config", [{}, {"model": None, "fusion": {}}, {"model": {"ibpp": 3}}])
def test_a_configuration_without_network_has_no_settings(config):
    assert read_settings(config) is None


def test_rules_name_what_there_is():
    for table in TABLES:
        assert set(table.columns) <= NAMES.keys()
        assert table.reference < len(table.rows)
        for row in table.rows:
            assert row.rule is None or row.rule.network in NETWORKS
            assert row.rule is None or row.rule.fusion in FUSIONS
            assert row.doubtful <= row.printed.keys() <= set(table.columns)


def test_no_two_rows_of_a_table_have_the_same_rule():
    for table in TABLES:
        rules = [row.rule for row in table.rows if row.rule is not None]
        assert len(set(rules)) == len(rules)


def test_printed_qualities_agree_with_their_parts_unless_marked():
    """COCO has 80 things and 53 stuff categories."""
    checked = 0
    for table in TABLES:
        for row in table.rows:
            values = row.printed
            if row.rule is None or not {"pq", "pq_things", "pq_stuff"} <= values.keys():
                continue
            implied = (80 * values["pq_things"] + 53 * values["pq_stuff"]) / 133
            is_right = abs(implied - values["pq"]) <= 0.15
            assert is_right != ("pq" in row.doubtful), (table.number, row.label)
            checked += 1
    assert checked >= 12
