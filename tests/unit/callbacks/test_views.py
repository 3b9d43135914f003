"""What pictures show of a prediction: pairs as the fusion decides them, iterations as they were."""

import numpy as np
import pytest
import torch

from refine.callbacks.views import find_decisions, view_iterations
from refine.fusion.evidence import Evidence
from refine.options import FusionOptions, MergeOptions, RelationsOptions
from refine.types import GroundTruth, IterationTrace, PairOcclusions, RawPrediction, Segment

SIZE = (64, 96)
LEFT, RIGHT = (0, 0, 48, 64), (32, 0, 96, 64)  # they share a third of LEFT


def prediction(*boxes, occlusions=None):
    """Rectangles with scores .9, .8, ..., categories 0, 1, ..."""
    count = len(boxes)
    return RawPrediction(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.linspace(0.9, 1.0 - 0.1 * count, count) if count else torch.zeros(0),
        labels=torch.arange(count),
        mask_logits=torch.full((count, 8, 8), 9.0),
        semantic_logits=torch.randn(5, 16, 24),
        image_size=SIZE,
        original_size=SIZE,
        occlusions=occlusions or {},
    )


def decisions_of(raw, truth=None, limit=9, **relations):
    options = FusionOptions(relations=RelationsOptions(**relations))
    return find_decisions(Evidence(raw, num_things=3), options, truth, limit=limit)


def truth_with(upper):
    """LEFT is segment 1, RIGHT segment 2; one of them owns what they share."""
    segment_map = np.zeros(SIZE, np.int32)
    boxes = {1: LEFT, 2: RIGHT}
    for k in (3 - upper, upper):
        x0, y0, x1, y1 = boxes[k]
        segment_map[y0:y1, x0:x1] = k
    segments = tuple(Segment(id=k, category=k - 1, is_thing=True, area=1) for k in (1, 2))
    return GroundTruth(segment_map=segment_map, segments=segments)


def test_without_a_head_the_configured_relation_is_shown():
    (decision,) = decisions_of(prediction(LEFT, RIGHT))
    assert (decision.upper.label, decision.lower.label) == (0, 1)
    assert decision.reason == "by score, scores 0.90 / 0.80"
    assert decision.is_right is None


def test_a_head_s_answer_decides_and_is_written_down():
    answers = PairOcclusions(
        pairs=torch.tensor([[0, 1], [1, 0]]), probabilities=torch.tensor([0.2, 0.7])
    )
    raw = prediction(LEFT, RIGHT, occlusions={"strong": answers})
    (decision,) = decisions_of(raw, kind="occlusion", head="strong")
    assert (decision.upper.label, decision.lower.label) == (1, 0)
    assert decision.reason == "by occlusion, O(strong) 0.70, scores 0.80 / 0.90"
    (by_score,) = decisions_of(raw)
    assert "O(strong) 0.20" in by_score.reason


@pytest.mark.parametrize(("owner", "is_right"), [(1, True), (2, False)])
def test_decisions_are_judged_by_the_ground_truth(owner, is_right):
    (decision,) = decisions_of(prediction(LEFT, RIGHT), truth_with(owner))
    assert decision.is_right is is_right


def test_the_rule_s_silence_is_said():
    (decision,) = decisions_of(prediction(LEFT, RIGHT), kind="shr", shr_box_frac=0.9)
    assert decision.upper.label == 0
    assert decision.reason.startswith("by score (shr abstains)")


def test_the_largest_common_areas_come_first():
    nearly_left = (0, 0, 44, 64)
    found = decisions_of(prediction(LEFT, RIGHT, nearly_left), overlap_thresh=0.1)
    areas = [{d.upper.label, d.lower.label} for d in found]
    assert areas == [{0, 2}, {0, 1}, {1, 2}]
    assert len(decisions_of(prediction(LEFT, RIGHT, nearly_left), limit=1)) == 1


@pytest.mark.parametrize("boxes", [(), (LEFT,), (LEFT, (60, 0, 90, 20))], ids=len)
def test_nothing_overlaps(boxes):
    assert decisions_of(prediction(*boxes), truth_with(1)) == []


def test_iterations_keep_canvas_semantic_map_and_sure_instances():
    raw = prediction(LEFT, RIGHT)
    trace = IterationTrace(iteration=1, raw=raw, canvas=torch.rand(3, 16, 24))
    (view,) = view_iterations([trace], MergeOptions(score_thresh=0.85))
    assert view.iteration == 1
    assert np.array_equal(view.canvas, trace.canvas.numpy())
    assert view.semantic.shape == SIZE
    assert [i.label for i in view.instances] == [0]
