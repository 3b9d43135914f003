"""Who lies over whom, rule by rule."""

import numpy as np
import pytest
import torch

from make.scenes import raw_of, truth_of
from refine.errors import RefineError
from refine.fusion.merge import Instance
from refine.fusion.overlaps import pair_overlaps
from refine.fusion.relations import prefer_by_soft_occlusion, register_relation, relate
from refine.options import RelationsOptions
from refine.options.fusion import RELATIONS
from refine.order.heads import needed_head
from refine.types import GroundTruth, MaskCrop, PairOcclusions, Segment

SIZE = (20, 20)


def rectangle(y, x, height, width, *, label=0, score=0.9, index=0):
    return Instance(MaskCrop(y, x, np.ones((height, width), bool)), label, score, index)


def box_of(instance):
    rows, columns = instance.crop.slices
    return [columns.start, rows.start, columns.stop, rows.stop]


def raw_of_instances(instances, **heads):
    boxes, labels = [box_of(i) for i in instances], [i.label for i in instances]
    return raw_of(boxes, [i.score for i in instances], labels=labels, size=SIZE, **heads)


def occlusions(answers):
    """``{(i, j): O(i, j)}`` as the answers of one head."""
    return {
        "occlusion": PairOcclusions(
            pairs=torch.tensor(list(answers), dtype=torch.int64).reshape(-1, 2),
            probabilities=torch.tensor(list(answers.values()), dtype=torch.float32),
        )
    }


def run(instances, *, raw=None, truth=None, **options):
    return relate(
        instances,
        pair_overlaps([i.crop for i in instances]),
        RelationsOptions(**options),
        raw=raw_of_instances(instances) if raw is None else raw,
        truth=truth,
    )


def answers(instances, **options):
    return run(instances, **options).on_top.tolist()


BIG = rectangle(0, 0, 10, 10, score=0.9)
SMALL = rectangle(2, 2, 4, 4, score=0.6, index=1)


def test_soft_occlusion_between_score_and_occlusion():
    raw = raw_of_instances([BIG, SMALL], occlusions=occlusions({(0, 1): 0.05, (1, 0): 0.95}))
    asked = {"raw": raw, "kind": "soft_occlusion"}
    assert answers([BIG, SMALL], **asked, sigma=2.5) == [1], "scores apart by more than e^(1/2.5)"
    assert answers([BIG, SMALL], **asked, sigma=1.0) == [-1]


def soft(scores, occlusion, sigma):
    return prefer_by_soft_occlusion(np.array([scores]), np.array([occlusion]), sigma=sigma)[0]


def test_the_threshold_that_the_specification_computed():
    assert soft((0.9, 0.7), (0.185, 0.815), 2.5) < 0 < soft((0.9, 0.7), (0.187, 0.813), 2.5)
    assert soft((0.9, 0.6), (0.0, 1.0), 2.5) > 0


def test_the_threshold_formula():
    """If O(j, i) = 1 - O(i, j): i over j from 1/2 - sigma/2 ln(s_i / s_j) on.

    A small sigma is the hard rule, a large one the order of the scores.
    """
    rng = np.random.default_rng(2)
    scores, first = rng.uniform(0.05, 1, (5000, 2)), rng.uniform(0, 1, 5000)
    for sigma in (1e-6, 1e-4, 0.3, 2.0, 2.5, 4.0, 1e9, float("inf")):
        threshold = 0.5 - sigma / 2 * np.log(scores[:, 0] / scores[:, 1])
        clear = np.abs(first - threshold) > 1e-9
        occlusion = np.stack([first, 1 - first], axis=1)
        preference = prefer_by_soft_occlusion(scores, occlusion, sigma=sigma)
        assert ((preference > 0) == (first > threshold))[clear].all()
        assert 0.1 < (first > threshold).mean() < 0.9


def test_the_margin_is_the_difference_of_the_damped_scores():
    expected = 0.8 * np.exp(-(0.7**2) / 2.5) - 0.7 * np.exp(-(0.2**2) / 2.5)
    assert soft((0.8, 0.7), (0.3, 0.8), 2.5) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_a_sigma_that_is_not_above_zero_is_refused(sigma):
    with pytest.raises(RefineError, match=r"relations.sigma=.*: expected a number above 0"):
        soft((0.9, 0.8), (0.5, 0.5), sigma)


@pytest.mark.parametrize("score", [0.0, float("nan")])
def test_a_score_of_zero_or_nan_is_refused(score):
    with pytest.raises(RefineError, match="needs scores above 0"):
        soft((0.9, score), (0.5, 0.5), 2.5)


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1])
def test_occlusions_outside_their_range_are_refused(value):
    raw = raw_of_instances([BIG, SMALL], occlusions=occlusions({(0, 1): value, (1, 0): 0.5}))
    with pytest.raises(RefineError, match="'occlusion' gave values outside"):
        run([BIG, SMALL], raw=raw, kind="soft_occlusion")


def test_rankings_that_are_not_finite_are_refused():
    raw = raw_of_instances([BIG, SMALL], rankings={"occlusion": torch.tensor([0.1, float("nan")])})
    with pytest.raises(RefineError, match="gave NaN"):
        run([BIG, SMALL], raw=raw, kind="srm")


def test_a_pair_that_the_head_was_not_asked_about_is_refused():
    raw = raw_of_instances([BIG, SMALL], occlusions=occlusions({(0, 1): 0.4}))
    with pytest.raises(RefineError, match=r"not asked about detections 0 and 1 \(it answers 1 "):
        run([BIG, SMALL], raw=raw, kind="occlusion")
    assert answers([BIG, SMALL], raw=raw, kind="occlusion", intra_category=False) == []


@pytest.mark.parametrize("kind", ["srm", "occlusion", "soft_occlusion"])
def test_a_missing_head_is_refused(kind):
    with pytest.raises(
        RefineError, match=r"no (ranking|occlusion) head 'occlusion': they have none"
    ):
        run([BIG, SMALL], kind=kind)
    heads = {
        "occlusions": {"strong": occlusions({})["occlusion"]},
        "rankings": {"strong": torch.ones(2)},
    }
    with pytest.raises(
        RefineError, match=r"head 'x': set fusion\.relations\.head to one of: strong"
    ):
        run([BIG, SMALL], raw=raw_of_instances([BIG, SMALL], **heads), kind=kind, head="x")


def test_instances_out_of_order_are_refused():
    with pytest.raises(ValueError, match="descending score"):
        run([SMALL, BIG])


def test_instances_without_a_detection_are_refused_where_it_matters():
    nameless = rectangle(2, 2, 4, 4, score=0.6, index=-1)
    assert answers([BIG, nameless], kind="area") == [-1]
    with pytest.raises(ValueError, match="which detection"):
        run([BIG, nameless], kind="shr")


@pytest.mark.parametrize("thresh", [0.25, 0.2501])
def test_a_pair_is_asked_about_from_the_overlap_limit_on(thresh):
    scene = [rectangle(0, 0, 4, 8), rectangle(0, 6, 4, 8, score=0.8)]  # 8 of 32 pixels each
    assert len(run(scene, overlap_thresh=thresh).pairs) == (thresh == 0.25)


def two_squares(upper):
    """Two overlapping squares, painted in either order."""
    segment_map = np.zeros(SIZE, np.int32)
    places = {1: (slice(0, 8), slice(0, 8)), 2: (slice(0, 8), slice(4, 12))}
    for number in (3 - upper, upper):
        segment_map[places[number]] = number
    return segment_map


SQUARES = [rectangle(0, 0, 8, 8), rectangle(0, 4, 8, 8, score=0.8, index=1)]
OUTLINES = [(0, i.crop, False) for i in SQUARES]


@pytest.mark.parametrize(("upper", "on_top"), [(1, 1), (2, -1)])
def test_without_outlines_the_owner_of_the_predicted_overlap_decides(upper, on_top):
    predicted = [rectangle(0, 0, 8, 7), rectangle(0, 5, 8, 7, score=0.8)]
    truth = truth_of(two_squares(upper), {1: 0, 2: 0})
    assert answers(predicted, truth=truth, kind="oracle", overlap_thresh=0.1) == [on_top]


def test_crowds_have_no_order():
    segments = (
        Segment(id=1, category=0, is_thing=True, area=32, is_crowd=True),
        Segment(id=2, category=0, is_thing=True, area=64),
    )
    truth = GroundTruth(segment_map=two_squares(2), segments=segments)
    assert answers(SQUARES, truth=truth, kind="oracle") == [0]
    crowd = [(0, SQUARES[0].crop, True), OUTLINES[1]]
    truth = truth_of(two_squares(2), {1: 0, 2: 0}, crowd)
    assert answers(SQUARES, truth=truth, kind="oracle") == [0]


def test_the_truth_is_needed_for_its_order():
    with pytest.raises(RefineError, match="oracle needs ground truth"):
        run(SQUARES, kind="oracle")


@pytest.mark.parametrize("kind", [*RELATIONS])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_nothing_overlaps(kind, count):
    scene = [rectangle(0, 8 * k, 4, 4, score=0.9 - k / 10, index=k) for k in range(count)]
    raw = raw_of_instances(
        scene, occlusions=occlusions({}), rankings={"occlusion": torch.zeros(len(scene))}
    )
    found = run(scene, raw=raw, truth=truth_of(two_squares(1), {1: 0, 2: 0}), kind=kind)
    assert found.pairs.shape == (0, 2)
    assert found.edges == []


def test_a_registered_relation_is_asked(monkeypatch):
    monkeypatch.setattr(RELATIONS, "added", {})
    seen = []

    @register_relation("lower")
    def prefer_lower(pairs):
        seen.append(pairs)
        return pairs.boxes[:, 0, 3] - pairs.boxes[:, 1, 3]

    assert answers([BIG, SMALL], kind="lower") == [1]
    low = rectangle(5, 2, 10, 4, score=0.6, index=1)
    assert answers([BIG, low], kind="lower") == [-1]
    assert seen[0].scores.tolist() == [[0.9, 0.6]]
    assert seen[0].areas.tolist() == [[100, 16]]
    assert seen[0].boxes.tolist() == [[[0, 0, 10, 10], [2, 2, 6, 6]]]
    register_relation("lower")(lambda pairs: np.full(len(pairs.pairs), np.nan))
    assert answers([BIG, low], kind="lower") == [0]
    register_relation("lower")(lambda pairs: np.zeros(3))
    with pytest.raises(RefineError, match=r"lower gave float64 of shape \(3,\) for 1 pairs"):
        run([BIG, low], kind="lower")
    with pytest.raises(ValueError, match="name of a relation='area': expected another name"):
        register_relation("area")


def test_a_registered_relation_may_ask_a_head(monkeypatch):
    monkeypatch.setattr(RELATIONS, "added", {})
    register_relation("doubtful", asks_head=True)(
        lambda pairs: pairs.occlusions[:, 0] - pairs.occlusions[:, 1] - 0.5
    )
    for value, expected in ((0.9, 1), (0.7, -1)):
        heads = {"occlusions": occlusions({(0, 1): value, (1, 0): 1 - value})}
        raw = raw_of_instances([BIG, SMALL], **heads)
        assert run([BIG, SMALL], raw=raw, kind="doubtful").on_top.tolist() == [expected]
    assert needed_head(RelationsOptions(kind="doubtful", head="strong")) == "strong"
    register_relation("doubtful")(lambda pairs: pairs.scores[:, 0])
    assert needed_head(RelationsOptions(kind="doubtful", head="strong")) is None
