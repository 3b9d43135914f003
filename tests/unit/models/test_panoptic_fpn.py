import numpy as np
import pytest
import torch

from fake_batches import NUM_CATEGORIES, fake_batch, fake_sample, tiny_network
from refine.losses.total import total_loss
from refine.options import LossWeights

LOSSES = {"rpn_objectness", "rpn_box", "box_class", "box_regression", "mask", "semantic"}


def _loss(network, batch, seed=0):
    return network.loss(batch, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("num_instances", [0, 1, 5])
@pytest.mark.parametrize("void", [False, True])
def test_losses_are_finite_and_reach_every_parameter_of_their_part(num_instances, void):
    rng = np.random.default_rng(0)
    network = tiny_network()
    batch = fake_batch([fake_sample(rng, num_instances=num_instances, void=void) for _ in range(2)])
    losses = _loss(network, batch)
    assert set(losses) == LOSSES
    total_loss(losses, LossWeights()).backward()
    assert all(torch.isfinite(v) for v in losses.values())
    # DDP needs a gradient everywhere, also without instances or semantic pixels
    without = [n for n, p in network.named_parameters() if p.grad is None]
    assert without == []


def test_only_the_drawn_sample_is_random():
    rng = np.random.default_rng(0)
    network, batch = tiny_network(), fake_batch([fake_sample(rng)])
    first, again, other = (_loss(network, batch, seed=s) for s in (1, 1, 2))
    assert all(torch.equal(first[k], again[k]) for k in LOSSES)
    assert not torch.equal(first["rpn_objectness"], other["rpn_objectness"])


@pytest.mark.parametrize("training", [True, False])
def test_return_types_do_not_depend_on_the_mode(training):
    rng = np.random.default_rng(0)
    network = tiny_network().train(training)
    batch = fake_batch([fake_sample(rng), fake_sample(rng)])
    assert set(_loss(network, batch)) == LOSSES
    with torch.no_grad():
        raw = network.predict(batch)
    assert len(raw) == 2
    for prediction in raw:
        count = len(prediction.boxes)
        assert prediction.mask_logits.shape == (count, 28, 28)
        assert prediction.scores.shape == prediction.labels.shape == (count,)
        assert prediction.semantic_logits.shape == (NUM_CATEGORIES, 16, 24)
        assert (prediction.scores[:-1] >= prediction.scores[1:]).all()


def test_predict_without_detections():
    network = tiny_network().eval()
    network.options.roi.score_thresh = 1.0
    with torch.no_grad():
        (raw,) = network.predict(fake_batch([fake_sample(np.random.default_rng(0))]))
    assert raw.boxes.shape == (0, 4)
    assert raw.mask_logits.shape == (0, 28, 28)


def test_a_network_that_proposes_nothing_still_trains_and_predicts():
    rng = np.random.default_rng(0)
    network = tiny_network()
    network.proposals.options.post_nms_train = network.proposals.options.post_nms_eval = 0
    batch = fake_batch([fake_sample(rng, num_instances=0)])
    losses = _loss(network, batch)
    total_loss(losses, LossWeights()).backward()
    assert float(losses["box_class"].detach()) == 0.0
    with torch.no_grad():
        assert len(network.predict(batch)[0].boxes) == 0


def test_padding_is_zero_after_normalisation():
    sample = fake_sample(np.random.default_rng(0), size=(64, 96))
    batch = fake_batch([sample])
    batch.image_sizes = ((40, 50),)
    images = tiny_network().normalize(batch)
    assert float(images[:, :, 40:].abs().sum() + images[:, :, :, 50:].abs().sum()) == 0
    assert float(images[:, :, :40, :50].abs().sum()) > 0


def test_overfits_one_batch():
    rng = np.random.default_rng(0)
    network, batch = tiny_network(), fake_batch([fake_sample(rng, size=(64, 64))])
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    history = []
    for _ in range(25):
        loss = total_loss(_loss(network, batch), LossWeights())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.6 * history[0]


def test_bf16_autocast_trains_and_predicts_in_float32():
    rng = np.random.default_rng(0)
    network, batch = tiny_network(), fake_batch([fake_sample(rng)])
    with torch.autocast("cpu", torch.bfloat16):
        losses = _loss(network, batch)
        with torch.no_grad():
            (raw,) = network.predict(batch)
    total_loss(losses, LossWeights()).backward()
    assert all(value.dtype == torch.float32 for value in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    assert raw.semantic_logits.dtype == raw.mask_logits.dtype == torch.float32


def test_memory_format_does_not_change_the_result():
    rng = np.random.default_rng(0)
    batch = fake_batch([fake_sample(rng)])
    plain, channels_last = tiny_network(), tiny_network()
    plain.load_state_dict(channels_last.state_dict())
    plain._memory_format = torch.contiguous_format
    plain.to(memory_format=torch.contiguous_format)
    for name, value in _loss(plain, batch).items():
        torch.testing.assert_close(value, _loss(channels_last, batch)[name], rtol=1e-4, atol=1e-5)
