from dataclasses import replace

import numpy as np
import pytest
import torch

from make.batches import (
    NUM_CATEGORIES,
    NUM_THINGS,
    fake_batch,
    fake_sample,
    tiny_network,
    tiny_options,
)
from oracles.panoptic_fpn import predict as plain_baseline
from refine.detector.deformable import DeformableConv
from refine.detector.refine_net import RefineNet
from refine.detector.total_loss import compute_loss_weights, total_loss
from refine.options import (
    AnchorOptions,
    IBPPOptions,
    LossWeights,
    ModelOptions,
    RoIOptions,
    SemanticOptions,
)

LOSSES = {"rpn_objectness", "rpn_box", "box_class", "box_regression", "mask", "semantic"}
NETWORKS = {
    "baseline": {},
    "cascade": {"cascade": True},
    "one iteration": {"iterations": 1},
    "three iterations": {"iterations": 3},
    "without cascade": {"iterations": 2, "cascade": False},
    "stage input": {"iterations": 2, "mask_rois": "stage_input"},
    "boxes read semantics": {"iterations": 2, "project_to_box": True},
    "shared heads": {"iterations": 2, "share_heads": True},
    "mask features flow": {"iterations": 2, "mask_info_flow": True},
    "mean masks": {"iterations": 2, "mask_ensemble": "mean", "canvas_reduce": "mean"},
}
every_network = pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)


def _loss(network, batch, seed=0):
    return network.loss(batch, generator=torch.Generator().manual_seed(seed))


@every_network
@pytest.mark.parametrize(("num_instances", "void"), [(0, True), (0, False), (1, True), (5, False)])
def test_losses_are_finite_and_reach_every_parameter_of_their_part(options, num_instances, void):
    rng = np.random.default_rng(0)
    network = tiny_network(**options)
    batch = fake_batch([fake_sample(rng, num_instances=num_instances, void=void) for _ in range(2)])
    losses = _loss(network, batch)
    assert set(losses) == set(compute_loss_weights(network.options))
    total_loss(losses, compute_loss_weights(network.options)).backward()
    assert all(torch.isfinite(v) for v in losses.values())
    # DDP needs a gradient everywhere, also without instances or semantic pixels
    without = [n for n, p in network.named_parameters() if p.grad is None]
    assert without == []


def test_the_baseline_has_the_plain_losses():
    assert set(compute_loss_weights(tiny_network().options)) == LOSSES


@pytest.mark.parametrize("iterations", [0, 3])
def test_only_the_drawn_sample_is_random(iterations):
    rng = np.random.default_rng(0)
    network, batch = tiny_network(iterations=iterations), fake_batch([fake_sample(rng)])
    first, again, other = (_loss(network, batch, seed=s) for s in (1, 1, 2))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["rpn_objectness"], other["rpn_objectness"])


@every_network
@pytest.mark.parametrize("training", [True, False])
def test_return_types_do_not_depend_on_the_mode(training, options):
    rng = np.random.default_rng(0)
    network = tiny_network(**options).train(training)
    batch = fake_batch([fake_sample(rng), fake_sample(rng)])
    assert all(v.requires_grad for v in _loss(network, batch).values())
    with torch.no_grad():
        raw = network.predict(batch)
    assert len(raw) == 2
    for prediction in raw:
        count = len(prediction.boxes)
        assert prediction.mask_logits.shape == (count, 28, 28)
        assert prediction.scores.shape == prediction.labels.shape == (count,)
        assert prediction.semantic_logits.shape == (NUM_CATEGORIES, 16, 24)
        assert (prediction.scores[:-1] >= prediction.scores[1:]).all()


@every_network
def test_predict_without_detections(options):
    network = tiny_network(**options).eval()
    network.options.roi.score_thresh = 1.0
    with torch.no_grad():
        (raw,) = network.predict(fake_batch([fake_sample(np.random.default_rng(0))]))
    assert raw.boxes.shape == (0, 4)
    assert raw.mask_logits.shape == (0, 28, 28)


@every_network
def test_a_network_that_proposes_nothing_still_trains_and_predicts(options):
    rng = np.random.default_rng(0)
    network = tiny_network(**options)
    network.proposals.options.post_nms_train = network.proposals.options.post_nms_eval = 0
    batch = fake_batch([fake_sample(rng, num_instances=0)])
    losses = _loss(network, batch)
    total_loss(losses, compute_loss_weights(network.options)).backward()
    assert all(float(v.detach()) == 0.0 for k, v in losses.items() if k.startswith(("box", "mask")))
    with torch.no_grad():
        assert len(network.predict(batch)[0].boxes) == 0


def test_padding_is_zero_after_normalisation():
    sample = fake_sample(np.random.default_rng(0), size=(64, 96))
    batch = fake_batch([sample])
    batch.image_sizes = ((40, 50),)
    images = tiny_network().normalize(batch)
    assert float(images[:, :, 40:].abs().sum() + images[:, :, :, 50:].abs().sum()) == 0
    assert float(images[:, :, :40, :50].abs().sum()) > 0


@pytest.mark.parametrize("iterations", [0, 2])
def test_overfits_one_batch(iterations):
    rng = np.random.default_rng(0)
    network, batch = (
        tiny_network(iterations=iterations),
        fake_batch([fake_sample(rng, size=(64, 64))]),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    history = []
    for _ in range(25):
        loss = total_loss(_loss(network, batch), compute_loss_weights(network.options))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.6 * history[0]


@every_network
def test_bf16_autocast_trains_and_predicts_in_float32(options):
    rng = np.random.default_rng(0)
    network, batch = tiny_network(**options), fake_batch([fake_sample(rng)])
    with torch.autocast("cpu", torch.bfloat16):
        losses = _loss(network, batch)
        with torch.no_grad():
            (raw,) = network.predict(batch)
    total_loss(losses, compute_loss_weights(network.options)).backward()
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


def test_without_iterations_it_is_the_plain_baseline_bit_for_bit():
    """Oracle 1."""
    batch = fake_batch([fake_sample(np.random.default_rng(0))])
    network = tiny_network().eval()
    with torch.no_grad():
        (raw,) = network.predict(batch)
        expected = plain_baseline(network, batch)
    found = (raw.boxes, raw.scores, raw.labels, raw.mask_logits, raw.semantic_logits[None][0])
    assert len(raw.boxes) > 0
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def _ibpp_gradients(network, name):
    losses = _loss(network, fake_batch([fake_sample(np.random.default_rng(0), num_instances=4)]))
    network.zero_grad()
    losses[name].backward()
    ibpp = network.ibpp

    def reached(module):
        return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())

    return {
        "masks": [reached(head) for head in ibpp.mask_heads],
        "semantics": [reached(h) for h in (ibpp.semantic_predictor, *ibpp.refined_heads)],
    }


def test_losses_of_an_iteration_reach_the_other_task_and_nothing_later():
    """Oracle 4, through the whole network."""
    network = tiny_network(iterations=3)
    reached = _ibpp_gradients(network, "semantic_2")
    assert reached["masks"] == [True, True, False]
    assert reached["semantics"] == [True, True, True, False]
    reached = _ibpp_gradients(network, "mask_2")
    assert reached["masks"] == [True, True, False]
    assert reached["semantics"] == [True, True, False, False]


def test_detached_losses_stay_with_their_own_head():
    network = tiny_network(iterations=3, detach=True)
    reached = _ibpp_gradients(network, "semantic_2")
    assert reached["masks"] == [False, False, False]
    assert reached["semantics"] == [False, False, True, False]
    reached = _ibpp_gradients(network, "mask_2")
    assert reached["masks"] == [False, True, False]
    assert reached["semantics"] == [False, False, False, False]


def test_the_canvas_fades_in():
    batch = fake_batch([fake_sample(np.random.default_rng(0))])
    network = tiny_network(iterations=1, canvas_warmup_steps=10)

    def semantic(step):
        generator = torch.Generator().manual_seed(0)
        return network.loss(batch, generator=generator, step=step)["semantic_1"]

    assert not torch.equal(semantic(0), semantic(5))
    assert not torch.equal(semantic(5), semantic(10))
    assert torch.equal(semantic(10), semantic(99))


def _predict(network, **kwargs):
    batch = fake_batch([fake_sample(np.random.default_rng(k)) for k in range(2)])
    with torch.no_grad():
        return network.predict(batch, **kwargs)


def _kept(raw, score):
    kept = raw.scores >= score
    return raw.boxes[kept], raw.scores[kept], raw.labels[kept], raw.mask_logits[kept]


def test_panoptic_only_is_exact_if_nothing_weaker_reaches_the_canvas():
    network = tiny_network(iterations=2, canvas_score_thresh=0.27).eval()
    for whole, few in zip(_predict(network), _predict(network, min_score=0.27), strict=True):
        assert 0 < len(few.boxes) < len(whole.boxes)
        for a, b in zip(_kept(whole, 0.27), _kept(few, 0.0), strict=True):
            torch.testing.assert_close(a, b)
        torch.testing.assert_close(whole.semantic_logits, few.semantic_logits)


def test_panoptic_only_differs_if_weak_detections_reach_the_canvas():
    network = tiny_network(iterations=2, canvas_score_thresh=0.05).eval()
    whole, few = _predict(network)[0], _predict(network, min_score=0.27)[0]
    assert not torch.allclose(whole.semantic_logits, few.semantic_logits)


@every_network
def test_trace_ends_where_predict_ends(options):
    network = tiny_network(**options).eval()
    batch = fake_batch([fake_sample(np.random.default_rng(k)) for k in range(2)])
    with torch.no_grad():
        predictions, traces = network.predict(batch), network.trace(batch)
    for raw, trace in zip(predictions, traces, strict=True):
        assert [t.iteration for t in trace] == list(range(network.num_iterations + 1))
        assert torch.equal(trace[-1].raw.semantic_logits, raw.semantic_logits)
        if options.get("mask_ensemble") != "mean":
            assert torch.equal(trace[-1].raw.mask_logits, raw.mask_logits)
        assert trace[0].canvas.shape == (NUM_THINGS, 16, 24)
        assert float(trace[0].canvas.sum()) == 0
        if network.num_iterations:
            assert len(trace[0].raw.boxes) == 0
            assert float(trace[-1].canvas.max()) > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IBPPOptions(num_iterations=-1), r"ibpp\.num_iterations=-1"),
        (
            lambda: ModelOptions(
                ibpp=IBPPOptions(num_iterations=2, carry="predictions"),
                loss_weights=LossWeights(roi_stages=[1.0]),
            ),
            "loss_weights.roi_stages=.*expected 2 weights",
        ),
        (
            lambda: ModelOptions(loss_weights=LossWeights(semantic_iterations=[1.0, 1.0])),
            "loss_weights.semantic_iterations=.*expected 1 weights",
        ),
        (
            lambda: ModelOptions(ibpp=IBPPOptions(num_iterations=1)),
            "semantic.channels=128.*fpn_channels=256",
        ),
        (
            lambda: ModelOptions(
                ibpp=IBPPOptions(num_iterations=4, carry="predictions"),
                roi=RoIOptions(cascade=True),
            ),
            "roi.cascade_iou_thresh=.*num_iterations=4",
        ),
    ],
)
def test_options_that_do_not_fit_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_semantic_trunk_may_deform():
    options = replace(tiny_options(), semantic=SemanticOptions(channels=32, dcn=True))
    network = RefineNet(options, anchors=AnchorOptions(), num_things=3, num_categories=5)
    assert any(isinstance(m, DeformableConv) for m in network.semantic_trunk.modules())
