import numpy as np
import pytest
import torch
from torch import nn

from refine.categories import CategoryTable
from refine.errors import RefineError
from refine.metrics.panoptic_quality import PanopticQuality
from refine.types import GroundTruth, PanopticPrediction, Segment

LIST = [{"id": 7, "name": "cat", "isthing": 1}, {"id": 3, "name": "sky", "isthing": 0}]
CATEGORIES = CategoryTable.of(LIST)


def image(cut):
    """A cat (left half) under the sky; ``cut`` columns of the cat are predicted as void."""
    true_map = np.repeat([[1] * 5 + [2] * 5], 8, axis=0).astype(np.int32)
    pred_map = true_map.copy()
    pred_map[:, :cut] = 0
    segments = (
        Segment(id=1, category=0, is_thing=True, area=40),
        Segment(id=2, category=1, is_thing=False, area=40),
    )
    prediction = PanopticPrediction(segment_map=pred_map, segments=segments)
    return prediction, GroundTruth(segment_map=true_map, segments=segments)


def updated(cuts, is_padding=None):
    metric = PanopticQuality(CATEGORIES)
    predictions, truths = zip(*map(image, cuts), strict=True)
    metric.update(predictions, truths, image_ids=cuts, is_padding=is_padding)
    return metric


def test_values_and_keys():
    metric = updated([1, 3])  # the cat: IoU .8, then .4
    found = {key: value.item() for key, value in metric.compute().items()}
    assert " ".join(found) == ("pq sq rq pq_things sq_things rq_things pq_stuff sq_stuff rq_stuff")
    assert [*found.values()] == pytest.approx([0.7, 0.9, 0.75, 0.4, 0.8, 0.5, 1, 1, 1])
    assert {v.dtype for v in metric.compute().values()} == {torch.float64}
    cat, sky = metric.per_category()
    assert (cat.category_id, cat.name, cat.tp, cat.fp, cat.fn) == (7, "cat", 1, 1, 1)
    assert (sky.category_id, sky.isthing, sky.pq) == (3, 0, 1.0)
    metric.reset()
    metric.update(*image(0))
    assert metric.compute()["pq"] == 1.0


def test_sums_and_records_over_processes_are_those_of_one_process_without_its_padding():
    first = updated([1, 0, 9], [False] * 2 + [True])
    for other in (updated([3, 2]), updated([1], [True])):
        first.merge_state(other)
    (sums, records), (expected, wanted) = first.totals(), updated([1, 3, 0, 2]).totals()
    np.testing.assert_allclose(sums.iou, expected.iou, rtol=0, atol=1e-12)
    assert sums.tp.tolist() == expected.tp.tolist()
    assert sums.fn.tolist() == expected.fn.tolist()
    assert records["image_id"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (records == wanted).all()
    first.reset()
    assert len(first.totals()[1]) == 0
    with pytest.raises(ValueError, match="shorter"):
        updated([1, 2], is_padding=[False])


def as_plain(panoptic, convert=np.asarray, **changes):
    """The same as dictionaries of COCO's fields."""
    segments = ({"id": s.id, "category_id": LIST[s.category]["id"]} for s in panoptic.segments)
    return {
        "segment_map": convert(panoptic.segment_map),
        "segments_info": [segment | changes for segment in segments],
    }


@pytest.mark.parametrize("convert", [torch.from_numpy, lambda m: m.astype(np.uint8)])
def test_plain_dictionaries_count_like_our_own_types(convert):
    metric = PanopticQuality(LIST)
    for cut in (1, 3):
        metric.update(*(as_plain(part, convert) for part in image(cut)))
    assert metric.compute() == updated([1, 3]).compute()
    assert len(metric.totals()[1]) == 0, "no records without ids"
    batch = metric(*(as_plain(part, convert) for part in image(4)))
    assert (batch["pq"], metric.tp.tolist()) == (0.5, [1, 3])


def test_crowds_of_plain_targets():
    prediction, truth = image(1)
    metric = PanopticQuality(LIST)
    metric.update(as_plain(prediction), as_plain(truth, iscrowd=1))
    assert metric.tp.tolist() == metric.fn.tolist() == [0, 0]


@pytest.mark.parametrize("area", [39, 80])
def test_stated_areas_of_plain_targets_are_those_of_their_pixels(area):
    prediction, truth = image(1)
    metric = PanopticQuality(LIST)
    metric.update(as_plain(prediction, area=area), as_plain(truth, area=40))
    with pytest.raises(
        RefineError, match=rf"segments_info\[0\] states an area of {area}, .* 40 pix"
    ):
        metric.update([as_plain(prediction)], [as_plain(truth, area=area)])


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        ([[1, 2]], "image 0, prediction: expected a dictionary with segment_map"),
        ({"segment_map": np.zeros((2, 2)), "segments_info": []}, "float64 of shape"),
        (
            {"segment_map": np.zeros((8, 10), int), "segments_info": [{"id": 1}]},
            r"image 0, prediction: segments_info\[0\] is {'id': 1}; expected",
        ),
        (as_plain(image(0)[0], category_id=8), "unknown category_id 8"),
        (as_plain(image(0)[0], id=1), "image 0: predicted segment id 1 is listed twice"),
    ],
)
def test_other_inputs_are_refused(prediction, message):
    with pytest.raises(RefineError, match=message):
        PanopticQuality(CATEGORIES).update([prediction], image(0)[1])


@pytest.mark.parametrize(
    "convert",
    [
        lambda m: m.half(),
        lambda m: m.float(),
        lambda m: m.to("cpu", torch.bfloat16),
        lambda m: m[0].set_dtype(torch.float16),
    ],
)
def test_no_conversion_costs_precision_and_states_follow_to_another_device(convert):
    metric = updated([1])
    convert(nn.Sequential(metric))
    metric.update(*image(3))
    assert metric.iou[0].item() == 0.8
    for _ in range(2):
        assert (metric.iou.dtype, metric.tp.dtype) == (torch.float64, torch.int64)
        metric.reset()
    nn.Sequential(metric).to("meta")
    assert metric.iou.device.type == metric.device.type == "meta"
