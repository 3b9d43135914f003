"""Heads by description, and what becomes of their answers."""

import pytest
import torch

from refine.fusion.evidence import Evidence
from refine.options import MergeOptions, OcclusionOptions, RankingOptions, RelationsOptions
from refine.order.category_pairs import CategoryPairHead
from refine.order.heads import ask_heads, build_head, describe_head, needed_head
from refine.order.occlusion_head import OcclusionHead
from refine.order.ranking_head import RankingHead
from refine.types import Observation, RawPrediction

THINGS, WIDTH = 3, 6
A, B, FAR = [0, 0, 20, 20], [10, 0, 30, 20], [40, 40, 60, 60]


def _heads():
    torch.manual_seed(0)
    options = OcclusionOptions(channels=8, num_convs=1, fc_channels=8)
    return {
        "strong": OcclusionHead(WIDTH, THINGS, options=options).eval(),
        "category": CategoryPairHead(THINGS),
        "srm": RankingHead(THINGS, options=RankingOptions(kernel_size=3)),
    }


def _ask(*boxes):
    """Detections of falling score with full masks and different categories, and the answers."""
    count = len(boxes)
    raw = RawPrediction(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.linspace(0.9, 0.7, count),
        labels=torch.arange(count),
        mask_logits=torch.full((count, 28, 28), 9.0),
        semantic_logits=torch.zeros(THINGS + 2, 16, 16),
        image_size=(64, 64),
        original_size=(128, 128),
    )
    features = torch.randn(count, WIDTH, 14, 14, generator=torch.Generator().manual_seed(0))
    observation, evidence = Observation(raw, features), Evidence(raw, num_things=THINGS)
    ask_heads(_heads(), observation, evidence, merge=MergeOptions())
    return observation


def test_answers_are_those_of_the_head_itself():
    observation = _ask(A, FAR, B)
    raw = observation.raw
    answers = raw.occlusions["strong"]
    direct = _heads()["strong"](
        observation.features, raw.mask_logits.sigmoid(), raw.labels, answers.pairs
    )
    assert answers.pairs.tolist() == [[0, 2], [2, 0]]
    torch.testing.assert_close(answers.probabilities, direct.sigmoid())
    assert set(raw.occlusions) == {"strong", "category"}
    assert raw.rankings["srm"].shape == (3,)
    assert raw.rankings["srm"][1] == 0  # nothing contests it
    assert (raw.rankings["srm"][[0, 2]] > 0).all()


@pytest.mark.parametrize("boxes", [[], [A], [A, FAR]])
def test_without_pairs_the_answer_is_empty(boxes):
    raw = _ask(*boxes).raw
    assert raw.occlusions["strong"].pairs.shape == (0, 2)
    assert raw.occlusions["strong"].probabilities.shape == (0,)
    assert raw.rankings["srm"].tolist() == [0] * len(boxes)


@pytest.mark.parametrize("name", ["strong", "category", "srm"])
def test_a_described_head_can_be_built_again(name):
    head = _heads()[name]
    copy = build_head(describe_head(head), in_channels=WIDTH, num_things=THINGS)
    copy.load_state_dict(head.state_dict())
    assert type(copy) is type(head)


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="unknown kind of head: oracle"):
        build_head({"kind": "oracle", "options": {}}, in_channels=WIDTH, num_things=THINGS)


def test_relations_that_need_no_head_name_none():
    assert needed_head(RelationsOptions(kind="soft_occlusion", head="strong")) == "strong"
    assert needed_head(RelationsOptions(kind="area")) is None
