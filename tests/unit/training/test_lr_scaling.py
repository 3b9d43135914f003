import pytest
from torch import nn

from refine.config import compose
from refine.config.instantiate import to_options
from refine.options import OptimizerOptions
from refine.training.optim import build_optimizer


@pytest.mark.parametrize(("batch_size", "lr"), [(16, 0.02), (32, 0.04), (4, 0.005), (1, 0.00125)])
def test_the_learning_rate_follows_the_batch_in_proportion(batch_size, lr):
    options = OptimizerOptions(lr=0.02, lr_reference_batch_size=16).scaled_to(batch_size)
    assert options.lr == pytest.approx(lr)
    optimizer = build_optimizer(nn.Linear(2, 2), options)
    assert {group["lr"] for group in optimizer.param_groups} == {options.lr}


def test_without_a_reference_it_stays():
    options = OptimizerOptions(lr=0.3)
    assert options.scaled_to(64) == options


def test_scaling_twice_is_scaling_once():
    once = OptimizerOptions(lr=0.02, lr_reference_batch_size=16).scaled_to(8)
    assert once.scaled_to(8) == once
    assert once.scaled_to(16).lr == pytest.approx(0.02)


def test_a_reference_of_nothing_is_named():
    with pytest.raises(ValueError, match="lr_reference_batch_size=0"):
        OptimizerOptions(lr_reference_batch_size=0)


@pytest.mark.parametrize(("optimizer", "reference"), [("sgd", 16), ("adamw", None)])
def test_the_recipe_for_photographs_scales_and_that_for_short_runs_does_not(optimizer, reference):
    cfg = compose("train", [f"optimizer={optimizer}"])
    assert to_options(cfg.optimizer, OptimizerOptions).lr_reference_batch_size == reference
    plain = compose("train", [f"optimizer={optimizer}", "optimizer.lr_reference_batch_size=null"])
    assert to_options(plain.optimizer, OptimizerOptions).lr_reference_batch_size is None
