import pytest
import torch
from torch import nn

from refine.options import OptimizerOptions, ScheduleOptions
from refine.training.optim import build_optimizer, build_schedule, schedule_factor


def _module():
    module = nn.Sequential(nn.Conv2d(3, 32, 1), nn.GroupNorm(32, 32), nn.Linear(2, 2))
    module[2].weight.requires_grad_(False)
    return module


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_norm_layers_have_their_own_decay_and_frozen_parameters_none(name):
    module = _module()
    options = OptimizerOptions(name=name, weight_decay=0.1, norm_weight_decay=0.0)
    optimizer = build_optimizer(module, options)
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decay == {
        id(module[0].weight): 0.1,
        id(module[0].bias): 0.1,
        id(module[1].weight): 0.0,
        id(module[1].bias): 0.0,
        id(module[2].bias): 0.1,
    }


def test_multistep_is_the_180k_schedule_of_the_paper():
    factor = schedule_factor(ScheduleOptions(), num_steps=180_000)
    assert factor(0) == pytest.approx(0.001)
    assert factor(500) == pytest.approx(0.5005)
    assert [factor(s) for s in (1000, 119_999)] == [1.0, 1.0]
    assert [factor(s) for s in (120_000, 160_000)] == pytest.approx([0.1, 0.01])


def test_cosine_ends_at_zero_and_passes_one_half_midway():
    options = ScheduleOptions(decay="cosine", warmup_steps=0)
    factor = schedule_factor(options, num_steps=100)
    assert [factor(s) for s in (0, 50, 100)] == pytest.approx([1.0, 0.5, 0.0])


def test_a_short_trial_is_not_all_warm_up():
    factor = schedule_factor(ScheduleOptions(warmup_steps=1000), num_steps=8)
    assert factor(2) == 1.0


def test_a_trial_of_two_steps_does_not_begin_at_full_rate():
    factor = schedule_factor(ScheduleOptions(warmup_steps=1000), num_steps=2)
    assert factor(0) == pytest.approx(0.001)
    assert factor(1) == 1.0
    assert schedule_factor(ScheduleOptions(warmup_steps=0), num_steps=2)(0) == 1.0


def test_schedule_scales_the_learning_rate():
    optimizer = build_optimizer(_module(), OptimizerOptions(lr=0.5))
    schedule = build_schedule(optimizer, ScheduleOptions(warmup_steps=10), num_steps=100)
    assert schedule.get_last_lr()[0] == pytest.approx(0.5 * 0.001)
    assert torch.isfinite(torch.tensor(schedule.get_last_lr())).all()
