"""What each branch knows, and what it makes of the truth."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from make.batches import NUM_CATEGORIES, NUM_THINGS, fake_batch, fake_sample, tiny_network
from make.runs import make_categories
from refine.evaluation.branch_probe import correct_logits, probe_branches
from refine.evaluation.per_iteration import evaluate_iterations
from refine.options import FusionOptions, MergeOptions
from refine.pipeline import Pipeline
from refine.types import GroundTruth, Segment

CATEGORIES = make_categories(NUM_THINGS, NUM_CATEGORIES - NUM_THINGS)


def _batch(seed, image_id):
    sample = fake_sample(np.random.default_rng(seed), num_instances=3, size=(64, 64))
    sample.target.semantic[:8] = 255
    ids = np.where(sample.target.semantic.numpy() == 255, 0, sample.target.semantic.numpy() + 1)
    segments = tuple(
        Segment(id=k + 1, category=k, is_thing=k < NUM_THINGS, area=int((ids == k + 1).sum()))
        for k in range(NUM_CATEGORIES)
    )
    truth = GroundTruth(segment_map=ids.astype(np.int32), segments=segments)
    return fake_batch([replace(sample, truth=truth, image_id=image_id)])


def _pipeline(**options):
    torch.manual_seed(0)
    return Pipeline(
        tiny_network(**options),
        num_things=NUM_THINGS,
        fusion=FusionOptions(merge=MergeOptions(score_thresh=0.2)),
        stuff_area_limit_px=1,
    ).eval()


@pytest.fixture(scope="module")
def batches():
    return [_batch(0, 5), _batch(1, 6)]


def test_figures_of_a_network_as_it_is(batches):
    pipeline = _pipeline(iterations=2)
    expected = [e.compute().metrics for e in evaluate_iterations(pipeline, batches, CATEGORIES)]
    figures = probe_branches(pipeline, batches, CATEGORIES)
    found = figures["predicted"]
    assert found["pq"] == [m["pq"] for m in expected]
    assert found["consensus_gap"] == [m["consensus_gap"] for m in expected]
    sums = {"things": [], "stuff": []}
    with torch.no_grad():
        for batch in batches:
            logits = pipeline.network.predict(batch)[0].semantic_logits[None]
            full = torch.nn.functional.interpolate(logits, size=(64, 64), mode="bilinear")
            surprise = -full[0].log_softmax(dim=0)
            for pixel in np.argwhere(batch.targets[0].semantic.numpy() != 255):
                category = int(batch.targets[0].semantic[tuple(pixel)])
                group = "things" if category < NUM_THINGS else "stuff"
                sums[group].append(float(surprise[(category, *pixel)]))
    for group, values in sums.items():
        assert found[f"cross_entropy_{group}"][-1] == pytest.approx(np.mean(values), rel=1e-5)
    assert len(found["mask_iou"]) == 2
    assert all(0 < iou < 1 for iou in found["mask_iou"])


def test_perfect_masks_in_shifted_boxes(batches):
    """Masks that fill their boxes, on instances that fill theirs: the IoU of the boxes alone."""
    pipeline = _pipeline(iterations=1, direction="none")
    head = pipeline.network.ibpp.mask_heads[0]
    torch.nn.init.zeros_(head.predictor_weight)
    torch.nn.init.constant_(head.predictor_bias, 20.0)
    (iou,) = probe_branches(pipeline, batches, CATEGORIES)["predicted"]["mask_iou"]
    assert 0.6 < iou < 0.9
    again = probe_branches(pipeline, reversed(batches), CATEGORIES)["predicted"]["mask_iou"]
    assert again == pytest.approx([iou])  # a box's shift follows from its image


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"iterations": 0}, []),
        ({"iterations": 1, "direction": "none"}, []),
        ({"iterations": 1, "direction": "sem_to_ins"}, ["true_semantics"]),
        ({"iterations": 1, "direction": "ins_to_sem"}, ["true_canvas"]),
        ({"iterations": 1}, ["true_canvas", "true_semantics"]),
    ],
)
def test_heads_read_the_truth_and_only_what_is_asked(options, rows, batches):
    pipeline = _pipeline(**options)
    figures = probe_branches(pipeline, batches[:1], CATEGORIES)
    assert list(figures) == ["predicted", *rows]
    before = figures["predicted"]
    if "true_canvas" in rows:
        told = figures["true_canvas"]
        assert told["cross_entropy_things"][1] != before["cross_entropy_things"][1]
        assert told["mask_iou"] == before["mask_iou"]  # the first masks read no canvas
    if "true_semantics" in rows:
        told = figures["true_semantics"]
        assert told["mask_iou"] != before["mask_iou"]
        assert told["cross_entropy_things"][0] == before["cross_entropy_things"][0]


def test_a_head_that_copies_its_canvas_is_right_if_told(batches):
    """The true canvas is the share of each cell that shows each thing."""
    pipeline = _pipeline(iterations=1, direction="ins_to_sem", refine_convs=0)
    predictor = pipeline.network.ibpp.refined_heads[0].predictor
    torch.nn.init.zeros_(predictor.weight)
    for k in range(NUM_THINGS):
        predictor.weight.data[k, k] = 50.0
    batch = batches[0]
    semantic = batch.targets[0].semantic
    semantic[:], semantic[16:32, 16:48], semantic[40:, 8:24] = 4, 0, 2
    predictor.bias.data[4] = 25.0
    figures = probe_branches(pipeline, [batch], CATEGORIES)
    assert figures["true_canvas"]["cross_entropy_things"][1] < 0.2
    assert figures["true_canvas"]["cross_entropy_stuff"][1] < 0.2
    assert figures["predicted"]["cross_entropy_things"][1] > 1


def test_corrected_logits_are_those_of_before_in_another_place():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 3, 4, generator=generator)
    shares = torch.rand(2, 5, 3, 4, generator=generator).softmax(1)
    shares[:, :, 0] *= 0.4  # mostly void
    corrected = correct_logits(logits, shares)
    np.testing.assert_array_equal(logits.sort(1).values, corrected.sort(1).values)
    for image, y, x in np.ndindex(2, 3, 4):
        before, after = logits[image, :, y, x].tolist(), corrected[image, :, y, x].tolist()
        true = int(np.argmax(shares[image, :, y, x]))
        if y == 0:
            assert before == after
        else:
            assert int(np.argmax(after)) == true
            assert sum(a != b for a, b in zip(before, after, strict=True)) in (0, 2)


def test_heads_learn_to_read_the_truth(batches):
    """Heads that are trained on the true canvas make more of it than heads on predicted ones do."""
    pipeline = _pipeline(iterations=1, direction="ins_to_sem")
    rest = {k: v.clone() for k, v in pipeline.network.state_dict().items() if "ibpp" not in k}
    figures = probe_branches(pipeline, batches, CATEGORIES, training=batches * 15)
    names = ["predicted", "true_canvas", "predicted_trained", "true_canvas_trained"]
    assert list(figures) == names
    error = {name: figures[name]["cross_entropy_things"][-1] for name in names}
    assert error["true_canvas_trained"] < error["predicted_trained"] < error["predicted"]
    after = pipeline.network.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in rest.items())
