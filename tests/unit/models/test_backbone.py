import numpy as np
import pytest
import torch

from fake_batches import fake_batch, fake_sample, tiny_network
from refine.losses.total import compute_loss_weights, total_loss
from refine.models.backbone import build_backbone
from refine.options import BACKBONES, NORMS, BackboneOptions


def test_levels_have_the_declared_channels_and_strides():
    backbone = build_backbone(BackboneOptions(name="r18", norm="gn", fpn_channels=64))
    levels = backbone(torch.zeros(1, 3, 128, 192))
    sizes = [tuple(level.shape[1:]) for level in levels]
    assert sizes == [(64, 128 // s, 192 // s) for s in backbone.strides]


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("norm", NORMS)
def test_every_backbone_and_norm_gives_five_levels(name, norm):
    with torch.device("meta"):
        backbone = build_backbone(BackboneOptions(name=name, norm=norm, fpn_channels=32))
        levels = backbone.eval()(torch.zeros(2, 3, 64, 64))
    assert [level.shape[-1] for level in levels] == [16, 8, 4, 2, 1]


@pytest.mark.parametrize("norm", NORMS)
def test_a_training_step_with_each_norm(norm):
    network = tiny_network(norm=norm)
    rng = np.random.default_rng(0)
    batch = fake_batch([fake_sample(rng), fake_sample(rng)])
    losses = network.loss(batch, generator=torch.Generator())
    total_loss(losses, compute_loss_weights(network.options)).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize(("stages", "expected"), [(0, 0), (1, 1), (2, 2), (5, 5)])
def test_frozen_stages_do_not_learn(stages, expected):
    backbone = build_backbone(BackboneOptions(name="r18", norm="gn", frozen_stages=stages))
    parts = [backbone.stem, *backbone.stages.values()]
    frozen = [not any(p.requires_grad for p in part.parameters()) for part in parts]
    assert frozen == [True] * expected + [False] * (5 - expected)
    assert all(p.requires_grad for p in backbone.fpn.parameters())
