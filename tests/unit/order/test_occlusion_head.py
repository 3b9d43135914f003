"""Ordered pairs: the shared computation equals the plain one."""

import itertools
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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


@pytest.mark.parametrize("antisymmetric", [True, False])
def test_the_order_of_a_pair_matters_unless_it_is_antisymmetric(antisymmetric):
    forth, back = _head(antisymmetric=antisymmetric)(*_instances(), torch.tensor([[0, 1], [1, 0]]))
    assert torch.allclose(forth, -back) == antisymmetric


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("use_label", [True, False])
def test_without_pairs_the_graph_stays(count, use_label):
    head = _head(use_label=use_label)
    loss = occlusion_loss(head(*_instances(count), _all_pairs(count)), torch.zeros(0))
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(p.grad is not None for p in head.parameters())


@torch.no_grad()
def test_chunks_do_not_change_the_answer():
    whole, chunked = (_head(chunk_size=n)(*_instances(), _all_pairs()) for n in (1000, 3))
    torch.testing.assert_close(whole, chunked)


def test_both_orders_of_a_pair_are_trained():
    pairs, targets = order_both_ways(torch.tensor([[0, 1], [4, 2]]))
    assert pairs.tolist() == [[0, 1], [4, 2], [1, 0], [2, 4]]
    assert targets.tolist() == [1, 1, 0, 0]
    right, wrong = (occlusion_loss(torch.tensor([s, s, -s, -s]), targets) for s in (3.0, -3.0))
    assert right < 0.1 < 2 < wrong


class _Ledger(TorchDispatchMode):
    """Bytes of all tensors that are alive, and their peak: on ``meta`` nothing is computed."""

    def __init__(self):
        super().__init__()
        self.alive, self.peak = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in self.alive:  # not a view
                self.alive[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.alive.pop, storage._cdata)
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


def _peak_bytes(num_pairs, **options):
    """Of one image of 100 instances, at the paper's width."""
    with torch.device("meta"), torch.no_grad():
        head = OcclusionHead(256, 80, options=OcclusionOptions(**options))
        instances = torch.empty(100, 256, 14, 14), torch.empty(100, 28, 28), torch.arange(100)
        pairs = torch.zeros(num_pairs, 2, dtype=torch.int64)
        with _Ledger() as ledger:
            head(*instances, pairs)
    return ledger.peak


@pytest.mark.parametrize("antisymmetric", [False, True])
def test_4950_pairs_stay_within_two_gibibytes_and_more_take_only_their_answers(antisymmetric):
    few, many = (_peak_bytes(count, antisymmetric=antisymmetric) for count in (512, 4950))
    assert many < 2**31 < _peak_bytes(4950, antisymmetric=antisymmetric, chunk_size=4950)
    assert many - few < 100 * 4950
