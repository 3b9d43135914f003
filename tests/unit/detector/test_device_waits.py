"""How often a training step waits for a GPU, or gives it work, on a device that is pretended."""

import numpy as np
import pytest
import torch

from make.batches import fake_batch, fake_sample, tiny_network
from make.device import count_operations, count_waits


def _count(iterations, images, count=count_waits, **options):
    rng = np.random.default_rng(0)
    network = tiny_network(iterations=iterations, **options).train()
    network.options.proposals.pre_nms_train = 100
    batch = fake_batch([fake_sample(rng) for _ in range(images)])
    generator = torch.Generator().manual_seed(0)

    def step():
        network.loss(batch.pin_memory().to("meta", non_blocking=True), generator=generator)

    return count(network, step)


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


@pytest.mark.parametrize(
    "options",
    [{"iterations": 0}, {"iterations": 3}, {"iterations": 1, "canvas_false_positives": 4}],
)
def test_the_work_for_a_device_is_given_for_all_images_at_once(options):
    few, many = (_count(images=images, count=count_operations, **options) for images in (2, 8))
    assert min(sum(few.values()), sum(many.values())) > 500
    grown = {place for place in many if many[place] > few.get(place, 0)}
    # every mask has its own size; images are copied one by one; the rounds of NMS depend on boxes
    assert grown <= {"mask_targets.py:sum_areas", "types.py:to", "nms.py:select_at_once"}


def test_waits_and_operations_are_counted():
    tensor = torch.nn.Linear(1, 1)
    assert sum(count_waits(tensor, lambda: float(tensor.weight.sum())).values()) == 1
    tensor = torch.nn.Linear(1, 1)
    operations = count_operations(tensor, lambda: [tensor.weight.sum() for _ in range(3)])
    assert sum(operations.values()) == 3
