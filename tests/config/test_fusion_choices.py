"""The rows of tables 5 and 6: one choice of ``fusion`` each, and nothing but the order differs."""

import itertools

import pytest
from omegaconf import OmegaConf

from refine.config import compose
from refine.config.instantiate import to_options, to_plain
from refine.config.locate import conf_dir
from refine.config.overrides import from_checkpoint
from refine.options import FusionOptions, RelationsOptions

EXPECTED = {
    "heuristic": ("score", None),
    "area": ("area", None),
    "shr": ("shr", None),
    "srm": ("srm", "srm"),
    "category_pairs": ("occlusion", "category"),
    "mask_only": ("occlusion", "mask"),
    "feature_only": ("occlusion", "feature"),
    "label_only": ("occlusion", "label"),
    "ocfusion": ("occlusion", "ocfusion"),
    "strong_baseline": ("occlusion", "strong"),
    "soe": ("soft_occlusion", "strong"),
    "oracle": ("oracle", None),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_choice_sets_the_order_and_nothing_else(name):
    fusion = to_options(compose("evaluate", [f"fusion={name}"]).fusion, FusionOptions)
    kind, head = EXPECTED[name]
    assert (fusion.relations.kind, fusion.relations.head) == (kind, head or RelationsOptions().head)
    plain = FusionOptions(relations=fusion.relations)
    assert fusion == plain  # no erasing, the same limits
    assert (fusion.relations.sigma, fusion.relations.shr_box_frac) == (2.5, 0.5)


@pytest.mark.parametrize("name", ["area", "srm", "soe"])
def test_a_choice_may_be_changed_and_erased(name):
    overrides = [
        f"fusion={name}", "component=ibpp_ue", "fusion.relations.head=other",
        "fusion.merge.score_thresh=0.6",
    ]  # fmt: skip
    cfg = compose("evaluate", overrides)
    fusion = from_checkpoint(cfg, _record("fusion.merge.overlap_thresh=0.3"), overrides).fusion
    assert fusion.relations.kind == EXPECTED[name][0]
    assert (fusion.relations.head, fusion.merge.score_thresh) == ("other", 0.6)
    assert fusion.unknown_erasing.mode == "score"
    assert fusion.merge.overlap_thresh == 0.5  # whoever names a choice gets the choice


@pytest.mark.parametrize("command", ["train", "predict"])
@pytest.mark.parametrize("name", ["soe", "area"])
def test_other_commands_have_the_choices_too(command, name):
    overrides = ["experiment=toy"] if command == "train" else []
    fusion = compose(command, [*overrides, f"fusion={name}"]).fusion
    assert fusion.relations.kind == EXPECTED[name][0]


def test_no_other_choice_asks_a_head():
    """Heads of these names are what the sweeps expect of a cache."""
    files = {p.stem: OmegaConf.load(p) for p in (conf_dir() / "fusion").glob("*.yaml")}
    heads = {name: OmegaConf.select(file, "relations.head") for name, file in files.items()}
    asked = {name: head for name, head in heads.items() if head is not None}
    assert asked == {name: head for name, (_, head) in EXPECTED.items() if head is not None}


@pytest.mark.parametrize(
    ("sweep", "rows"),
    [
        ("relations", EXPECTED.keys() - {"mask_only", "feature_only", "label_only"}),
        (
            "soe_inputs",
            EXPECTED.keys() - {"area", "shr", "srm", "category_pairs", "oracle"},
        ),
    ],
)
def test_sweeps_have_every_row(sweep, rows):
    assert _params(sweep).keys() == {"fusion"}
    assert sorted(_params(sweep)["fusion"]) == sorted(rows)


def test_sigma_is_swept_on_the_strong_baseline_s_answers():
    params = _params("sigma")
    assert params["fusion"] == ["soe"]
    sigmas = [float(s) for s in params["fusion.relations.sigma"]]
    assert {2.0, 2.5, 4.0} < set(sigmas)
    assert all(a < b for a, b in itertools.pairwise(sigmas))
    assert sigmas[0] < 0.01 < 50 < sigmas[-1]  # to both limits: hard order, and score
    overrides = ["fusion=soe", "fusion.relations.sigma=4.0"]
    cfg = compose("evaluate", overrides)
    relations = from_checkpoint(cfg, _record(), overrides).fusion.relations
    assert (relations.kind, relations.head, relations.sigma) == ("soft_occlusion", "strong", 4.0)


def _params(sweep):
    content = OmegaConf.load(conf_dir() / "sweep" / f"{sweep}.yaml")
    return {k: str(v).split(",") for k, v in content.hydra.sweeper.params.items()}


def _record(*overrides):
    """What a checkpoint remembers of its configuration."""
    cfg = compose("train", ["experiment=toy", *overrides])
    return {section: to_plain(cfg[section]) for section in ("model", "data", "fusion")}
