"""What is counted while heads are trained."""

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
    RankingStageOptions,
)
from refine.order.heads import build_head
from refine.pipeline import Pipeline
from refine.training.order_module import OrderModule

SMALL = {"one": OcclusionOptions(channels=8)}
STAGES = {
    "occlusion": OcclusionStageOptions(heads=SMALL),
    "predicted": OcclusionStageOptions(heads=SMALL, pairs="predicted"),
    "ranking": RankingStageOptions(heads={"one": RankingOptions()}),
}


def _module(stage):
    is_ranking = stage == "ranking"
    spec = {"kind": "ranking" if is_ranking else "occlusion"}
    spec["options"] = {} if is_ranking else {"channels": 8}
    head = build_head(spec, in_channels=32, num_things=NUM_THINGS)
    pipeline = Pipeline(
        tiny_network(), num_things=NUM_THINGS, fusion=FusionOptions(), stuff_area_limit_px=0
    )
    pipeline.heads["one"] = head
    return OrderModule(
        pipeline,
        STAGES[stage],
        category_pairs=torch.zeros(NUM_THINGS, NUM_THINGS, dtype=torch.int64),
        optimizer=OptimizerOptions(),
        seed=0,
        record={},
    )


@pytest.mark.parametrize("stage", ["occlusion", "ranking"])
def test_repeats_that_fill_up_a_sampler_are_not_counted(stage):
    rng = np.random.default_rng(0)
    samples = [fake_sample(rng, num_instances=2) for _ in range(3)]
    for sample in samples:
        sample.target.pairs = torch.tensor([[1, 0]])
    samples[2].is_padding = True
    module = _module(stage).eval()
    module.validation_step(fake_batch(samples))
    assert int(module.accuracy.num_pairs) == 2


@pytest.mark.parametrize("stage", STAGES)
def test_only_the_heads_train(stage):
    module = _module(stage).train()
    assert not any(m.training for m in module.pipeline.network.modules())
    assert all(head.training for head in module.learning.values())
    learning = {n for n, p in module.named_parameters() if p.requires_grad}
    assert learning
    assert all(name.startswith("pipeline.heads.one.") for name in learning)
