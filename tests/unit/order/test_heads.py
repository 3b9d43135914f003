"""Which pairs heads are asked about, and what becomes of their answers."""

import pytest
import torch

from refine.fusion.evidence import Evidence
from refine.options import MergeOptions, OcclusionOptions, RankingOptions, RelationsOptions
from refine.order.category_pairs import CategoryPairHead
from refine.order.heads import (
    ask_heads,
    build_head,
    choose_pairs,
    describe_head,
    needed_head,
)
from refine.order.occlusion_network import OcclusionHead
from refine.order.ranking_network import RankingHead
from refine.types import Observation, RawPrediction

THINGS, WIDTH = 3, 6


def _observation(boxes, scores, labels=None):
    """Full masks in the boxes, on an image of 64 x 64."""
    count = len(boxes)
    generator = torch.Generator().manual_seed(0)
    raw = RawPrediction(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(scores, dtype=torch.float32),
        labels=torch.tensor(labels or [0] * count, dtype=torch.int64),
        mask_logits=torch.full((count, 28, 28), 9.0),
        semantic_logits=torch.zeros(THINGS + 2, 16, 16),
        image_size=(64, 64),
        original_size=(128, 128),
    )
    return Observation(raw, torch.randn(count, WIDTH, 14, 14, generator=generator))


def _heads():
    torch.manual_seed(0)
    options = OcclusionOptions(channels=8, num_convs=1, fc_channels=8)
    return {
        "strong": OcclusionHead(WIDTH, THINGS, options=options).eval(),
        "category": CategoryPairHead(THINGS),
        "srm": RankingHead(THINGS, options=RankingOptions(kernel_size=3)),
    }


def _ask(observation, **merge):
    evidence = Evidence(observation.raw, num_things=THINGS)
    ask_heads(_heads(), observation, evidence, merge=MergeOptions(**merge))
    return observation.raw


A, B, FAR = [0, 0, 20, 20], [10, 0, 30, 20], [40, 40, 60, 60]


def test_every_overlapping_pair_is_asked_in_both_orders():
    observation = _observation([A, FAR, B], [0.9, 0.8, 0.7])
    evidence = Evidence(observation.raw, num_things=THINGS)
    assert choose_pairs(evidence, MergeOptions()).tolist() == [[0, 2], [2, 0]]


@pytest.mark.parametrize(
    ("score", "thresh", "count"), [(0.31, 0.5, 2), (0.29, 0.5, 0), (0.29, 0.2, 2)]
)
def test_weak_detections_are_asked_about_only_if_the_merge_wants_them(score, thresh, count):
    observation = _observation([A, B], [0.9, score])
    evidence = Evidence(observation.raw, num_things=THINGS)
    assert len(choose_pairs(evidence, MergeOptions(score_thresh=thresh))) == count


def test_slight_overlaps_are_left_out():
    observation = _observation([A, [19.9, 0, 40, 20]], [0.9, 0.8])
    evidence = Evidence(observation.raw, num_things=THINGS)
    assert len(choose_pairs(evidence, MergeOptions())) == 0


def test_answers_are_those_of_the_head_itself():
    observation = _observation([A, FAR, B], [0.9, 0.8, 0.7], [0, 1, 2])
    raw = _ask(observation)
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
    raw = _ask(_observation(boxes, [0.9] * len(boxes)))
    assert raw.occlusions["strong"].pairs.shape == (0, 2)
    assert raw.occlusions["strong"].probabilities.shape == (0,)
    assert raw.rankings["srm"].tolist() == [0] * len(boxes)


def test_identical_masks_are_a_pair_like_any_other():
    raw = _ask(_observation([A, A], [0.9, 0.9]))
    assert raw.occlusions["strong"].pairs.tolist() == [[0, 1], [1, 0]]


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
