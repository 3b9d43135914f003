"""Pairs of a batch: true ones, predicted ones, both orders of each."""

import numpy as np
import pytest
import torch

from make.batches import NUM_THINGS, fake_batch, fake_sample, tiny_network
from refine.options import (
    FusionOptions,
    OcclusionOptions,
    OcclusionStageOptions,
    OptimizerOptions,
    RankingOptions,
    ScheduleOptions,
)
from refine.order.occlusion_loss import occlusion_loss, order_pairs
from refine.order.occlusion_network import OcclusionHead
from refine.order.ranking_network import RankingHead
from refine.pipeline import Pipeline
from refine.training.occlusion import OcclusionModule, _join, find_predicted_pairs
from refine.training.ranking import RankingModule
from refine.types import Observation, RawPrediction, TrainingTarget


def _target(boxes, labels, pairs):
    return TrainingTarget(
        semantic=torch.zeros(64, 64, dtype=torch.uint8),
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        masks=(),
        pairs=torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
    )


def _observation(boxes, labels, shade=0.0):
    count = len(boxes)
    raw = RawPrediction(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.linspace(0.9, 0.5, count),
        labels=torch.tensor(labels, dtype=torch.int64),
        mask_logits=torch.ones(count, 28, 28),
        semantic_logits=torch.zeros(2, 16, 16),
        image_size=(64, 64),
        original_size=(64, 64),
    )
    return Observation(raw, torch.full((count, 2, 14, 14), shade))


A, B, C = [0, 0, 20, 20], [10, 0, 30, 20], [40, 40, 60, 60]


def test_both_orders_of_a_pair_are_asked():
    pairs, truth = order_pairs(torch.tensor([[0, 1], [4, 2]]))
    assert pairs.tolist() == [[0, 1], [4, 2], [1, 0], [2, 4]]
    assert truth.tolist() == [1, 1, 0, 0]


def test_the_loss_of_no_pair_keeps_the_graph():
    weight = torch.ones(1, requires_grad=True)
    pairs, truth = order_pairs(torch.zeros((0, 2), dtype=torch.int64))
    loss = occlusion_loss(weight * torch.zeros(len(pairs)), truth)
    loss.backward()
    assert loss == 0
    assert weight.grad is not None


def test_the_loss_is_low_for_the_true_order():
    _, truth = order_pairs(torch.tensor([[0, 1]]))
    right, wrong = (occlusion_loss(torch.tensor([s, -s]), truth) for s in (3.0, -3.0))
    assert right < 0.1 < 2 < wrong


@pytest.mark.parametrize(
    ("boxes", "labels", "expected"),
    [
        ([B, A], [1, 0], [[1, 0]]),  # detections in another order
        ([A, A, B], [0, 0, 1], [[0, 2], [1, 2]]),  # two stand for the same instance
        ([A, B], [1, 1], []),  # another category
        ([A, C], [0, 1], []),  # one is not found
        ([[0, 0, 8, 20], B], [0, 1], []),  # IoU .4
        ([], [], []),
    ],
    ids=["order", "twice", "category", "missing", "iou", "none"],
)
def test_predicted_pairs_stand_for_true_ones(boxes, labels, expected):
    target = _target([A, B, C], [0, 1, 1], [[0, 1]])
    found = find_predicted_pairs(_observation(boxes, labels), target)
    assert found.tolist() == expected


def test_no_instances_no_pairs():
    assert find_predicted_pairs(_observation([A], [0]), _target([], [], [])).shape == (0, 2)


def test_images_are_joined_with_only_what_pairs_need():
    seen = _join(
        [_observation([A, C, B], [0, 1, 2], 1.0), _observation([A, B], [1, 0], 2.0)],
        [torch.tensor([[2, 0]]), torch.tensor([[0, 1]])],
    )
    assert seen.pairs.tolist() == [[1, 0], [2, 3]]
    assert seen.labels.tolist() == [0, 2, 1, 0]
    assert seen.features[:, 0, 0, 0].tolist() == [1, 1, 2, 2]
    assert seen.areas.tolist() == [400] * 4
    none = _join([_observation([A], [0])], [torch.zeros((0, 2), dtype=torch.int64)])
    assert none.pairs.shape == (0, 2)
    assert none.features.shape == (0, 2, 14, 14)


@pytest.mark.parametrize("stage", ["occlusion", "ranking"])
def test_repeats_that_fill_up_a_sampler_are_not_counted(stage):
    rng = np.random.default_rng(0)
    samples = [fake_sample(rng, num_instances=2) for _ in range(3)]
    for sample in samples:
        sample.target.pairs = torch.tensor([[1, 0]])
    samples[2].is_padding = True
    module = _module(stage)
    module.validation_step(fake_batch(samples))
    assert int(module.accuracy.num_pairs) == 2


def _module(stage):
    pipeline = Pipeline(
        tiny_network().eval(),
        num_things=NUM_THINGS,
        fusion=FusionOptions(),
        stuff_area_limit_px=0,
        heads={
            "strong": OcclusionHead(32, NUM_THINGS, options=OcclusionOptions(channels=8)),
            "srm": RankingHead(NUM_THINGS, options=RankingOptions()),
        },
    )
    common = {
        "optimizer": OptimizerOptions(), "schedule": ScheduleOptions(), "seed": 0, "record": {},
    }  # fmt: skip
    if stage == "ranking":
        return RankingModule(pipeline, ["srm"], **common)
    counts = torch.zeros(NUM_THINGS, NUM_THINGS, dtype=torch.int64)
    options = OcclusionStageOptions()
    return OcclusionModule(pipeline, ["strong"], options=options, category_pairs=counts, **common)
