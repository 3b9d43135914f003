"""The official evaluator's answers for three result files over real annotations."""

import json

import pytest

from refine.workflows.score_results import score_results

pytestmark = pytest.mark.real


@pytest.mark.parametrize("name", ["mild", "noisy", "erased"])
def test_every_count_and_fraction_is_the_official_one(coco_root, golden_root, name):
    golden = golden_root / "pq" / name
    result = score_results(
        coco_root / "annotations" / "panoptic_val2017.json",
        golden / "predictions.json",
        pred_dir=golden / "png",
    )
    expected = json.loads((golden / "expected.json").read_text())
    for group, official in (("all", "All"), ("things", "Things"), ("stuff", "Stuff")):
        quality = result.groups[group]
        assert quality.num_categories == expected[official]["n"]
        for key in ("pq", "sq", "rq"):
            assert getattr(quality, key) == pytest.approx(expected[official][key], abs=1e-9)
    seen = 0
    for row in result.rows:
        counts = expected["counts"].get(str(row.category_id), {})
        assert (row.tp, row.fp, row.fn) == tuple(counts.get(k, 0) for k in ("tp", "fp", "fn"))
        assert row.iou == pytest.approx(counts.get("iou", 0), abs=1e-9)
        official = expected["per_class"].get(str(row.category_id), {})
        for key in ("pq", "sq", "rq"):
            assert getattr(row, key) == pytest.approx(official.get(key, 0), abs=1e-9)
        seen += str(row.category_id) in expected["counts"]
    assert seen == len(expected["counts"])
    assert result.metrics["num_images"] == 42


def test_ground_truth_against_itself_is_exactly_one(coco_root):
    truth = coco_root / "annotations" / "panoptic_val2017.json"
    result = score_results(truth, truth)
    assert set(result.metrics.values()) == {1.0, 42}
    assert {(row.fp, row.fn) for row in result.rows} == {(0, 0)}
