"""The truth as IBPP's heads read it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from make.batches import NUM_CATEGORIES, NUM_THINGS, fake_batch, fake_sample, tiny_network
from make.commands import load_script
from refine.types import GroundTruth, Segment

script = load_script("evaluate_upper_bound")


@pytest.fixture
def batch():
    """One image: a thing in the first two columns of cells, half void, stuff elsewhere."""
    sample = fake_sample(np.random.default_rng(0), size=(64, 96))
    ids = np.full((64, 96), 2, np.int32)
    ids[:, :8] = 1
    ids[:32, :8] = 0
    parts = ((1, 1, True, 256), (2, 4, False, 64 * 88))
    segments = tuple(Segment(id=k, category=c, is_thing=t, area=a) for k, c, t, a in parts)
    return fake_batch([replace(sample, truth=GroundTruth(segment_map=ids, segments=segments))])


def test_cells_hold_the_share_of_each_category(batch):
    truth = script.true_categories(batch, NUM_CATEGORIES)
    assert truth.shape == (1, NUM_CATEGORIES, 16, 24)
    assert (truth[0, 1, 8:, :2] == 1).all()
    assert truth[0, 1].sum() == 16
    assert truth[0, :, :8, :2].sum() == 0  # void
    assert (truth[0, 4, :, 2:] == 1).all()


def test_heads_read_the_truth_and_only_what_is_asked(batch):
    torch.manual_seed(0)
    network = tiny_network(iterations=1).eval()
    truth = script.true_categories(batch, NUM_CATEGORIES)
    with torch.inference_mode():
        before = network.predict(batch)[0].semantic_logits
        script.tell_truth(network.ibpp, truth, num_things=NUM_THINGS, canvas=True, maps=False)
        after = network.predict(batch)[0].semantic_logits
    assert not torch.equal(before, after)
    assert torch.equal(network.ibpp.project_masks()[0], truth[:, :NUM_THINGS])
    assert "pool_semantics" not in vars(network.ibpp)
