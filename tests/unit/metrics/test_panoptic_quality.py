import numpy as np
import pytest
import torch
from torch import nn

from refine.categories import Category, CategoryTable
from refine.errors import RefineError
from refine.metrics.panoptic_quality import PanopticQuality
from refine.types import GroundTruth, PanopticPrediction, Segment

CATEGORIES = CategoryTable(
    [
        Category(dataset_id=7, name="cat", is_thing=True, color=(1, 2, 3)),
        Category(dataset_id=3, name="sky", is_thing=False, color=(4, 5, 6)),
    ]
)


def image(cut):
    """A cat (left half) under the sky; ``cut`` columns of the cat are predicted as void."""
    true_map = np.ones((8, 10), np.int32)
    true_map[:, 5:] = 2
    pred_map = true_map.copy()
    pred_map[:, :cut] = 0
    segments = (
        Segment(id=1, category=0, is_thing=True, area=40),
        Segment(id=2, category=1, is_thing=False, area=40),
    )
    prediction = PanopticPrediction(segment_map=pred_map, segments=segments)
    return prediction, GroundTruth(segment_map=true_map, segments=segments)


def update(metric, cuts, is_padding=None):
    predictions, truths = zip(*map(image, cuts), strict=True)
    metric.update(predictions, truths, image_ids=cuts, is_padding=is_padding or [False] * len(cuts))


def test_values_and_keys():
    metric = PanopticQuality(CATEGORIES)
    update(metric, [1, 3])  # the cat: IoU .8, then .4
    values = {key: value.item() for key, value in metric.compute().items()}
    assert values == pytest.approx(
        {
            "pq": 0.7,
            "sq": 0.9,
            "rq": 0.75,
            "pq_things": 0.4,
            "sq_things": 0.8,
            "rq_things": 0.5,
            "pq_stuff": 1.0,
            "sq_stuff": 1.0,
            "rq_stuff": 1.0,
        }
    )
    assert {v.dtype for v in metric.compute().values()} == {torch.float64}
    cat, sky = metric.per_category()
    assert (cat.category_id, cat.name, cat.tp, cat.fp, cat.fn) == (7, "cat", 1, 1, 1)
    assert (sky.category_id, sky.isthing, sky.pq) == (3, 0, 1.0)


def test_padding_is_skipped():
    padded, plain = PanopticQuality(CATEGORIES), PanopticQuality(CATEGORIES)
    update(padded, [1, 3, 1], is_padding=[False, False, True])
    update(plain, [1, 3])
    assert padded.compute() == plain.compute()


def as_plain(panoptic, convert=np.asarray, **changes):
    """The same as dictionaries of COCO's fields."""
    infos = [
        {"id": s.id, "category_id": CATEGORIES[s.category].dataset_id} | changes
        for s in panoptic.segments
    ]
    return {"segment_map": convert(panoptic.segment_map), "segments_info": infos}


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy, lambda m: m.astype(np.uint8)])
def test_plain_dictionaries_count_like_our_own_types(convert):
    own, plain = PanopticQuality(CATEGORIES), PanopticQuality(CATEGORIES.to_json())
    update(own, [1, 3])
    for cut in (1, 3):
        prediction, truth = image(cut)
        plain.update(as_plain(prediction, convert), as_plain(truth, convert))
    assert plain.compute() == own.compute()
    assert len(plain.totals()[1]) == 0, "no records without ids"
    batch = [as_plain(part, convert) for part in image(4)]
    assert plain(*batch)["pq"] == 0.5, "forward gives the value of the batch"
    assert plain.tp.tolist() == [1, 3]


def test_crowds_and_stated_areas_of_plain_targets():
    prediction, truth = image(1)
    metric = PanopticQuality(CATEGORIES)
    metric.update(as_plain(prediction), as_plain(truth, iscrowd=1))
    assert metric.tp.tolist() == metric.fn.tolist() == [0, 0]
    metric.update(as_plain(prediction), as_plain(truth, area=80))
    assert metric.iou.tolist() == [0, 0]
    assert metric.fn.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        ([[1, 2]], "image 0, prediction: expected a dictionary with segment_map"),
        ({"segment_map": np.zeros((2, 2))}, "expected a dictionary"),
        ({"segment_map": np.zeros((2, 2)), "segments_info": []}, "float64 of shape"),
        (
            as_plain(image(0)[0]) | {"segments_info": [{"id": 1}]},
            r"segments_info\[0\] is {'id': 1}",
        ),
        (as_plain(image(0)[0], category_id=8), "unknown category_id 8"),
        (as_plain(image(0)[0], id=1), "image 0: predicted segment id 1 is listed twice"),
        (as_plain(image(0)[0], lambda m: m[:4]), "image 0: the predicted map is 4 x 10"),
    ],
)
def test_other_inputs_are_refused(prediction, message):
    with pytest.raises(RefineError, match=message):
        PanopticQuality(CATEGORIES).update([prediction], image(0)[1])


def test_a_process_that_saw_only_padding_changes_nothing():
    full, empty = PanopticQuality(CATEGORIES), PanopticQuality(CATEGORIES)
    update(full, [1, 3])
    update(empty, [1], is_padding=[True])
    expected = full.compute()
    full.merge_state(empty)
    full._computed = None
    assert full.compute() == expected


def test_image_records_add_up_and_survive_a_merge():
    first, second = PanopticQuality(CATEGORIES), PanopticQuality(CATEGORIES)
    update(first, [4, 0, 9], is_padding=[False, False, True])
    update(second, [3])
    update(second, [1], is_padding=[True])
    first.merge_state(second)
    records = first.totals()[1]
    assert records["image_id"].tolist() == [0, 0, 3, 3, 4, 4]
    assert records["category"].tolist() == [0, 1] * 3
    assert records["iou"].sum() == first.iou.sum()
    first.reset()
    assert len(first.totals()[1]) == 0


def test_sums_over_processes_equal_one_process():
    one, first, second = (PanopticQuality(CATEGORIES) for _ in range(3))
    update(one, [1, 3, 0, 2])
    update(first, [1, 0])
    update(second, [3, 2])
    first.merge_state(second)
    assert {k: v.item() for k, v in first.compute().items()} == pytest.approx(
        {k: v.item() for k, v in one.compute().items()}, abs=1e-12
    )
    assert (first.tp == one.tp).all()
    assert (first.fn == one.fn).all()


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        update(PanopticQuality(CATEGORIES), [1, 2], is_padding=[False])


@pytest.mark.parametrize(
    "convert",
    [
        lambda m: m.half(),
        lambda m: m.float(),
        lambda m: m.bfloat16(),
        lambda m: m.to(torch.bfloat16),
        lambda m: m.to("cpu", torch.float16),
        lambda m: m[0].set_dtype(torch.float16),
    ],
)
def test_no_conversion_costs_precision(convert):
    metric = PanopticQuality(CATEGORIES)
    module = nn.Sequential(metric)
    update(metric, [1])
    convert(module)
    update(metric, [3])
    assert (metric.iou.dtype, metric.tp.dtype) == (torch.float64, torch.int64)
    assert metric.iou[0].item() == 0.8
    metric.reset()
    assert (metric.iou.dtype, metric.tp.dtype) == (torch.float64, torch.int64)


def test_states_follow_a_move_to_another_device():
    metric = PanopticQuality(CATEGORIES)
    nn.Sequential(metric).to("meta")
    assert metric.iou.device.type == "meta"
    assert metric.device.type == "meta"


def test_reset_forgets():
    metric = PanopticQuality(CATEGORIES)
    update(metric, [1])
    metric.reset()
    update(metric, [0])
    assert metric.compute()["pq"] == 1.0
