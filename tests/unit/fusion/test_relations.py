"""Who lies over whom, rule by rule."""

import numpy as np
import pytest
import torch

from refine.errors import RefineError
from refine.fusion.merge import Instance, merge_segments
from refine.fusion.overlaps import pair_overlaps
from refine.fusion.relations import prefer_by_soft_occlusion, relate
from refine.ops.outlines import encode_mask
from refine.options import MergeOptions, RelationsOptions
from refine.options.fusion import RELATIONS
from refine.types import (
    IGNORE_INDEX,
    GroundTruth,
    InstanceTruth,
    MaskCrop,
    PairOcclusions,
    RawPrediction,
    Segment,
)

SIZE = (20, 20)


def rectangle(y, x, height, width, *, label=0, score=0.9, index=0):
    return Instance(MaskCrop(y, x, np.ones((height, width), bool)), label, score, index)


def box_of(instance):
    rows, columns = instance.crop.slices
    return [columns.start, rows.start, columns.stop, rows.stop]


def raw_of(instances, **heads):
    return RawPrediction(
        boxes=torch.tensor([box_of(i) for i in instances], dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor([i.score for i in instances]),
        labels=torch.tensor([i.label for i in instances], dtype=torch.int64),
        mask_logits=torch.zeros(len(instances), 28, 28),
        semantic_logits=torch.zeros(3, 8, 8),
        image_size=SIZE,
        original_size=SIZE,
        **heads,
    )


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
        raw=raw_of(instances) if raw is None else raw,
        truth=truth,
    )


def answers(instances, **options):
    return run(instances, **options).on_top.tolist()


BIG = rectangle(0, 0, 10, 10, score=0.9)
SMALL = rectangle(2, 2, 4, 4, score=0.6, index=1)


def test_the_share_of_a_box_is_that_of_continuous_boxes():
    """12 of 24 pixels are no more than half; boxes a pixel wider would say 15 of 28."""
    scene = [rectangle(0, 0, 4, 6), rectangle(0, 3, 4, 6, score=0.8, index=1)]
    assert answers(scene, kind="shr") == [0]
    assert answers(scene, kind="shr", shr_box_frac=0.49) == [1]


def test_soft_occlusion_between_score_and_occlusion():
    raw = raw_of([BIG, SMALL], occlusions=occlusions({(0, 1): 0.05, (1, 0): 0.95}))
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
    raw = raw_of([BIG, SMALL], occlusions=occlusions({(0, 1): value, (1, 0): 0.5}))
    with pytest.raises(RefineError, match="'occlusion' gave values outside"):
        run([BIG, SMALL], raw=raw, kind="soft_occlusion")


def test_rankings_that_are_not_finite_are_refused():
    raw = raw_of([BIG, SMALL], rankings={"occlusion": torch.tensor([0.1, float("nan")])})
    with pytest.raises(RefineError, match="gave NaN"):
        run([BIG, SMALL], raw=raw, kind="srm")


def test_a_pair_that_the_head_was_not_asked_about_is_refused():
    raw = raw_of([BIG, SMALL], occlusions=occlusions({(0, 1): 0.4}))
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
        run([BIG, SMALL], raw=raw_of([BIG, SMALL], **heads), kind=kind, head="x")


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


def truth_of(segment_map, segments, outlines=None):
    """``outlines``: ``(label, mask crop, is crowd)``; None: a dataset without them."""
    instances = outlines and InstanceTruth(
        boxes=np.zeros((len(outlines), 4), np.float32),
        labels=np.array([label for label, *_ in outlines]),
        is_crowd=np.array([crowd for *_, crowd in outlines]),
        masks=tuple(encode_mask(crop) for _, crop, _ in outlines),
    )
    return GroundTruth(
        segment_map=segment_map,
        segments=tuple(
            Segment(id=i, category=c, is_thing=c < 2, area=int((segment_map == i).sum()))
            for i, c in segments
        ),
        instances=instances,
    )


def two_squares(upper):
    """Two overlapping squares, painted in either order."""
    segment_map = np.zeros(SIZE, np.int32)
    places = {1: (slice(0, 8), slice(0, 8)), 2: (slice(0, 8), slice(4, 12))}
    for number in (3 - upper, upper):
        segment_map[places[number]] = number
    return segment_map


SQUARES = [rectangle(0, 0, 8, 8), rectangle(0, 4, 8, 8, score=0.8, index=1)]
OUTLINES = [(0, i.crop, False) for i in SQUARES]


def test_predictions_that_miss_the_overlap_are_ordered_by_the_outlines():
    """The predicted masks meet in one column only, which void hides."""
    segment_map = two_squares(2)
    segment_map[:, 6] = 0
    predicted = [rectangle(0, 0, 8, 7), rectangle(0, 6, 8, 6, score=0.8)]
    truth = truth_of(segment_map, [(1, 0), (2, 0)], OUTLINES)
    assert answers(predicted, truth=truth, kind="oracle", overlap_thresh=0.1) == [-1]


@pytest.mark.parametrize(("upper", "on_top"), [(1, 1), (2, -1)])
def test_without_outlines_the_owner_of_the_predicted_overlap_decides(upper, on_top):
    predicted = [rectangle(0, 0, 8, 7), rectangle(0, 5, 8, 7, score=0.8)]
    truth = truth_of(two_squares(upper), [(1, 0), (2, 0)])
    assert answers(predicted, truth=truth, kind="oracle", overlap_thresh=0.1) == [on_top]


def test_a_third_segment_on_top_leaves_the_pair_undecided():
    segment_map = two_squares(2)
    segment_map[:, 4:8] = 3
    truth = truth_of(segment_map, [(1, 0), (2, 0), (3, 2)], OUTLINES)
    assert answers(SQUARES, truth=truth, kind="oracle") == [0]


def test_void_in_the_overlap_does_not_vote():
    segment_map = two_squares(2)
    segment_map[:7, 4:8] = 0
    truth = truth_of(segment_map, [(1, 0), (2, 0)], OUTLINES)
    assert answers(SQUARES, truth=truth, kind="oracle") == [-1]
    segment_map[:, 4:8] = 0
    truth = truth_of(segment_map, [(1, 0), (2, 0)], OUTLINES)
    assert answers(SQUARES, truth=truth, kind="oracle") == [0]


def test_predictions_without_a_true_instance_have_no_relation():
    truth = truth_of(two_squares(2), [(1, 0), (2, 0)], OUTLINES)
    wrong_category = [SQUARES[0], rectangle(0, 4, 8, 8, label=1, score=0.8)]
    assert answers(wrong_category, truth=truth, kind="oracle") == [0]
    duplicates = [SQUARES[0], rectangle(0, 0, 8, 7, score=0.8)]
    assert answers(duplicates, truth=truth, kind="oracle") == [0]


def test_crowds_have_no_order():
    segments = (
        Segment(id=1, category=0, is_thing=True, area=32, is_crowd=True),
        Segment(id=2, category=0, is_thing=True, area=64),
    )
    truth = GroundTruth(segment_map=two_squares(2), segments=segments)
    assert answers(SQUARES, truth=truth, kind="oracle") == [0]
    crowd = [(0, SQUARES[0].crop, True), OUTLINES[1]]
    truth = truth_of(two_squares(2), [(1, 0), (2, 0)], crowd)
    assert answers(SQUARES, truth=truth, kind="oracle") == [0]


def test_the_truth_is_needed_for_its_order():
    with pytest.raises(RefineError, match="oracle needs ground truth"):
        run(SQUARES, kind="oracle")


@pytest.mark.parametrize("kind", RELATIONS)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_nothing_overlaps(kind, count):
    scene = [rectangle(0, 8 * k, 4, 4, score=0.9 - k / 10, index=k) for k in range(count)]
    raw = raw_of(scene, occlusions=occlusions({}), rankings={"occlusion": torch.zeros(len(scene))})
    found = run(scene, raw=raw, truth=truth_of(two_squares(1), [(1, 0), (2, 0)]), kind=kind)
    assert found.pairs.shape == (0, 2)
    assert found.edges == []


def test_reversed_relations_turn_the_picture_round():
    raw = raw_of(SQUARES, occlusions=occlusions({(0, 1): 0.1, (1, 0): 0.9}))
    pictures = [
        merge_segments(
            SQUARES,
            np.full(SIZE, IGNORE_INDEX, np.uint8),
            num_things=2,
            options=MergeOptions(),
            stuff_area_limit_px=0,
            relations=run(SQUARES, raw=raw, kind=kind),
        ).segment_map
        for kind in ("score", "occlusion")
    ]
    assert [(picture == 1).sum() for picture in pictures] == [64, 32]
    assert [(picture == 2).sum() for picture in pictures] == [32, 64]
