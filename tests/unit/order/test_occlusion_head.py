"""Ordered pairs: the shared computation equals the plain one."""

import itertools

import pytest
import torch

from oracles.occlusion import predict
from refine.options import OcclusionOptions
from refine.order.occlusion_head import OcclusionHead, occlusion_loss, order_both_ways

THINGS, WIDTH, COUNT = 4, 6, 5
INPUTS = [c for c in itertools.product([True, False], repeat=3) if any(c)]


def _head(**options):
    torch.manual_seed(0)
    small = {"channels": 8, "fc_channels": 12}
    return OcclusionHead(WIDTH, THINGS, options=OcclusionOptions(**small | options))


def _instances(count=COUNT):
    rng = torch.Generator().manual_seed(1)
    return (
        torch.randn(count, WIDTH, 14, 14, generator=rng),
        torch.rand(count, 28, 28, generator=rng),
        torch.randint(0, THINGS, (count,), generator=rng),
    )


def _all_pairs(count=COUNT):
    pairs = list(itertools.permutations(range(count), 2))
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)


@pytest.mark.parametrize(("use_mask", "use_feature", "use_label"), INPUTS)
def test_equals_the_plain_network_and_reads_what_it_is_told_to(use_mask, use_feature, use_label):
    head = _head(use_mask=use_mask, use_feature=use_feature, use_label=use_label)
    features, masks, labels = instances = _instances()
    pairs, pair = _all_pairs(), torch.tensor([[0, 1]])
    found = head(*instances, pairs)
    assert len(found.unique()) > 1
    torch.testing.assert_close(found, predict(head, *instances, pairs), rtol=1e-4, atol=1e-5)
    base = head(features, masks, labels, pair)
    changed = [
        head(features, 1 - masks, labels, pair),
        head(features + 1, masks, labels, pair),
        head(features, masks, (labels + 1) % THINGS, pair),
    ]
    assert [not torch.equal(c, base) for c in changed] == [use_mask, use_feature, use_label]


def test_the_order_of_a_pair_matters_unless_it_is_antisymmetric():
    forth, back = torch.tensor([[0, 1]]), torch.tensor([[1, 0]])
    plain, mirrored = _head(), _head(antisymmetric=True)
    assert not torch.allclose(plain(*_instances(), forth), -plain(*_instances(), back))
    torch.testing.assert_close(mirrored(*_instances(), forth), -mirrored(*_instances(), back))


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("use_label", [True, False])
def test_without_pairs_the_graph_stays(count, use_label):
    head = _head(use_label=use_label)
    logits = head(*_instances(count), _all_pairs(count))
    assert logits.shape == (0,)
    loss = occlusion_loss(logits, torch.zeros(0))
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(p.grad is not None for p in head.parameters())


def test_chunks_do_not_change_the_answer():
    pairs = _all_pairs()
    with torch.no_grad():
        whole, chunked = (_head(chunk_size=n)(*_instances(), pairs) for n in (1000, 3))
    torch.testing.assert_close(whole, chunked)


def test_an_instance_is_what_counts_not_its_place():
    head = _head()
    features, masks, labels = _instances()
    order = torch.tensor([3, 1, 4, 0, 2])
    pairs = _all_pairs()
    moved = head(features[order], masks[order], labels[order], order.argsort()[pairs])
    torch.testing.assert_close(moved, head(features, masks, labels, pairs))


def test_both_orders_of_a_pair_are_trained():
    pairs, targets = order_both_ways(torch.tensor([[0, 1], [4, 2]]))
    assert pairs.tolist() == [[0, 1], [4, 2], [1, 0], [2, 4]]
    assert targets.tolist() == [1, 1, 0, 0]
    right, wrong = (occlusion_loss(torch.tensor([s, s, -s, -s]), targets) for s in (3.0, -3.0))
    assert right < 0.1 < 2 < wrong
