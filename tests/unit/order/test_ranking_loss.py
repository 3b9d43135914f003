"""The ranking network learns from contested cells where a thing is seen, and from nothing else."""

import numpy as np
import pytest
import torch
from torch import nn

from oracles.ranking import ranking_loss as oracle
from refine.order.ranking_loss import ranking_loss

THINGS, CATEGORIES = 4, 7


def _batch(seed=0, *, covered=0.4):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (2, THINGS, 5, 6)).astype(np.float32)
    maps = rng.random((2, THINGS, 5, 6)) < covered
    semantic = rng.choice([*range(CATEGORIES), 255], (2, 20, 24)).astype(np.uint8)
    return tuple(map(torch.from_numpy, (logits, maps, semantic)))


def test_it_is_the_mean_over_contested_cells_with_a_visible_thing():
    logits, maps, semantic = _batch()
    expected = oracle(logits.numpy(), maps.numpy(), semantic.numpy())
    assert expected > 0
    assert float(ranking_loss(logits, maps, semantic)) == pytest.approx(expected, rel=1e-5)


def test_other_cells_get_no_gradient():
    logits, maps, semantic = _batch()
    logits.requires_grad_()
    ranking_loss(logits, maps, semantic).backward()
    visible = semantic[:, 2::4, 2::4]
    counts = (maps.sum(dim=1) >= 2) & (visible < THINGS)
    moved = logits.grad.abs().sum(dim=1) > 0
    assert torch.equal(moved, counts)
    assert 0 < int(counts.sum()) < counts.numel()


@pytest.mark.parametrize(
    "change",
    [
        lambda maps, semantic: (torch.zeros_like(maps), semantic),
        lambda maps, semantic: (maps & (torch.arange(THINGS) == 1)[:, None, None], semantic),
        lambda maps, semantic: (maps, torch.full_like(semantic, 255)),
        lambda maps, semantic: (maps, torch.full_like(semantic, THINGS)),
    ],
    ids=["no masks", "one category", "void", "stuff is seen"],
)
def test_without_a_cell_that_counts_it_is_zero_and_stays_in_the_graph(change):
    layer = nn.Conv2d(THINGS, THINGS, 1)
    logits, maps, semantic = _batch()
    maps, semantic = change(maps, semantic)
    loss = ranking_loss(layer(logits), maps, semantic)
    assert float(loss.detach()) == 0
    loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())


def test_half_precision_logits_are_summed_in_full():
    logits, maps, semantic = _batch()
    half = ranking_loss(logits.bfloat16(), maps, semantic)
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(ranking_loss(logits, maps, semantic)), rel=0.02)
