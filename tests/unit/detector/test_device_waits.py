"""How often a training step makes the host wait for a GPU, on a device that is only pretended."""

import numpy as np
import pytest
import torch

from make.batches import fake_batch, fake_sample, tiny_network
from make.device import count_waits


def _count(iterations, images):
    rng = np.random.default_rng(0)
    network = tiny_network(iterations=iterations).train()
    batch = fake_batch([fake_sample(rng) for _ in range(images)])
    generator = torch.Generator().manual_seed(0)

    def step():
        network.loss(batch.pin_memory().to("meta", non_blocking=True), generator=generator)

    return count_waits(network, step)


@pytest.mark.parametrize("iterations", [0, 3])
def test_no_image_is_waited_for(iterations):
    few, many = _count(iterations, 2), _count(iterations, 5)
    # NMS looks whether anything has changed; the number of proposals
    nms = [waits.pop("nms.py:select_at_once") for waits in (few, many)]
    assert max(nms) <= 5
    assert few == many
    # every sampling, every pooling from several levels, the planes of each canvas
    stages = max(iterations, 1)
    assert sum(few.values()) == (1 + stages) + 2 * stages + (2 * stages if iterations else 0)


def test_a_wait_is_counted():
    tensor = torch.nn.Linear(1, 1)
    assert sum(count_waits(tensor, lambda: float(tensor.weight.sum())).values()) == 1
