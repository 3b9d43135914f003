"""4950 pairs of one image, at the paper's width, in bounded memory."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from refine.options import OcclusionOptions
from refine.order.occlusion_head import OcclusionHead

COUNT, THINGS, WIDTH = 100, 80, 256
LIMIT = 2 * 2**30


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
    with torch.device("meta"), torch.no_grad():
        head = OcclusionHead(WIDTH, THINGS, options=OcclusionOptions(**options))
        features, masks = torch.empty(COUNT, WIDTH, 14, 14), torch.empty(COUNT, 28, 28)
        labels = torch.empty(COUNT, dtype=torch.int64)
        pairs = torch.empty(num_pairs, 2, dtype=torch.int64)
        with _Ledger() as ledger:
            logits = head(features, masks, labels, pairs)
    assert logits.shape == (num_pairs,)
    return ledger.peak


@pytest.mark.parametrize("antisymmetric", [False, True])
def test_4950_pairs_stay_within_two_gibibytes(antisymmetric):
    assert _peak_bytes(4950, antisymmetric=antisymmetric) < LIMIT
    assert _peak_bytes(4950, antisymmetric=antisymmetric, chunk_size=4950) > LIMIT


def test_more_pairs_take_no_more_than_their_answers():
    few, many = _peak_bytes(512), _peak_bytes(4950)
    assert many - few < 100 * 4950
