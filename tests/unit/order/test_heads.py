"""Heads by description, and what becomes of their answers."""

import pytest
import torch

from make.batches import make_observation
from refine.fusion.evidence import Evidence
from refine.options import MergeOptions, OcclusionOptions, RankingOptions, RelationsOptions
from refine.order.category_pairs import CategoryPairHead
from refine.order.heads import ask_heads, build_head, describe_head, needed_head
from refine.order.occlusion_head import OcclusionHead
from refine.order.ranking_head import RankingHead

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
    """Detections of different categories with random features, and the answers."""
    seen = make_observation(boxes, range(len(boxes)), width=WIDTH)
    seen.features.normal_(generator=torch.Generator().manual_seed(0))
    ask_heads(_heads(), seen, Evidence(seen.raw, num_things=THINGS), merge=MergeOptions())
    return seen


def test_answers_are_those_of_the_head_itself():
    seen = _ask(A, FAR, B)
    raw = seen.raw
    answers = raw.occlusions["strong"]
    masks = raw.mask_logits.sigmoid()
    direct = _heads()["strong"](seen.features, masks, raw.labels, answers.pairs)
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


def test_a_described_head_can_be_built_again_and_unknown_kinds_are_refused():
    for head in _heads().values():
        copy = build_head(describe_head(head), in_channels=WIDTH, num_things=THINGS)
        copy.load_state_dict(head.state_dict())
        assert type(copy) is type(head)
    with pytest.raises(ValueError, match="unknown kind of head: oracle"):
        build_head({"kind": "oracle", "options": {}}, in_channels=WIDTH, num_things=THINGS)


def test_relations_that_need_no_head_name_none():
    assert needed_head(RelationsOptions(kind="soft_occlusion", head="strong")) == "strong"
    assert needed_head(RelationsOptions(kind="area")) is None
