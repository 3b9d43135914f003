import pytest
from torch import nn

from refine.options import OptimizerOptions, ScheduleOptions
from refine.training.optim import build_optimizer, schedule_factor


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_norm_layers_have_their_own_decay_and_frozen_parameters_none(name):
    module = nn.Sequential(nn.Conv2d(3, 32, 1), nn.GroupNorm(32, 32), nn.Linear(2, 2))
    module[2].weight.requires_grad_(False)
    options = OptimizerOptions(name=name, weight_decay=0.1, norm_weight_decay=0.0)
    optimizer = build_optimizer(module, options)
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    decaying = [*module[0].parameters(), module[2].bias]
    assert decay == {id(p): 0.1 for p in decaying} | {id(p): 0 for p in module[1].parameters()}


@pytest.mark.parametrize(
    ("options", "num_steps", "expected"),
    [
        # the paper's schedule of 180k steps
        ({}, 180_000, {0: 1e-3, 500: 0.5005, 1000: 1, 119_999: 1, 120_000: 0.1, 160_000: 0.01}),
        ({"decay": "cosine", "warmup_steps": 0}, 100, {0: 1, 50: 0.5, 100: 0}),
        # a short trial is not all warm-up, but does not start at the full rate
        ({"warmup_steps": 1000}, 8, {2: 1}),
        ({"warmup_steps": 1000}, 2, {0: 0.001, 1: 1}),
        ({"warmup_steps": 0}, 2, {0: 1}),
    ],
    ids=["multistep", "cosine", "8 steps", "2 steps", "no warm-up"],
)
def test_the_factor_on_the_learning_rate(options, num_steps, expected):
    factor = schedule_factor(ScheduleOptions(**options), num_steps=num_steps)
    assert {step: factor(step) for step in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("reference", "batch_size", "lr"),
    [(16, 16, 0.02), (16, 32, 0.04), (16, 4, 0.005), (16, 1, 0.00125), (None, 64, 0.02)],
)
def test_the_learning_rate_follows_the_batch_in_proportion(reference, batch_size, lr):
    options = OptimizerOptions(lr=0.02, lr_reference_batch_size=reference)
    scaled = options.scaled_to(batch_size)
    assert scaled.lr == pytest.approx(lr)
    assert scaled.scaled_to(batch_size) == scaled
    assert scaled.scaled_to(16).lr == pytest.approx(0.02)
    optimizer = build_optimizer(nn.Linear(2, 2), scaled)
    assert {group["lr"] for group in optimizer.param_groups} == {scaled.lr}
