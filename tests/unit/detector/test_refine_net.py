import numpy as np
import pytest
import torch

from make.batches import NUM_CATEGORIES, NUM_THINGS, fake_batch, fake_sample, tiny_network
from oracles.panoptic_fpn import predict as plain_baseline
from refine.detector.losses import compute_loss_weights, total_loss

LOSSES = {"rpn_objectness", "rpn_box", "box_class", "box_regression", "mask", "semantic"}
NETWORKS = {
    "baseline": {},
    "cascade": {"cascade": True},
    "one iteration": {"iterations": 1},
    "three iterations": {"iterations": 3},
    "without cascade": {"iterations": 2, "cascade": False},
    "nothing crosses": {"iterations": 2, "direction": "none"},
    "stage input": {"iterations": 2, "mask_rois": "stage_input"},
    "final boxes": {"iterations": 2, "mask_rois": "final", "mask_rois_add_truth": True},
    "boxes of all stages": {"cascade": True, "plain_mask_rois": "interleaved"},
    "false positives": {"iterations": 2, "canvas_false_positives": 4, "detach": "sem_to_ins"},
    "sound start": {
        "iterations": 2,
        "refine": "residual",
        "join": "embedding",
        "mask_start": "zero",
    },
    "boxes read semantics": {"iterations": 2, "project_to_box": True},
    "shared heads": {"iterations": 2, "share_heads": True},
    "mask features flow": {"iterations": 2, "mask_info_flow": True},
    "mean masks": {"iterations": 2, "mask_ensemble": "mean", "canvas_reduce": "mean"},
}


@pytest.fixture(scope="module", params=NETWORKS.values(), ids=NETWORKS)
def every_network(request):
    """One network for all tests, whose backbone's body (see test_backbone) does not learn."""
    torch.manual_seed(0)
    return tiny_network(**request.param, frozen_stages=5)


def _batch(*seeds, **sample):
    return fake_batch([fake_sample(np.random.default_rng(k), **sample) for k in seeds or (0,)])


def _loss(network, batch, seed=0, **step):
    return network.loss(batch, generator=torch.Generator().manual_seed(seed), **step)


def _total(network, losses):
    return total_loss(losses, compute_loss_weights(network.options))


@torch.no_grad()
def _predict(network, batch, **options):
    return network.predict(batch, **options)


@pytest.mark.parametrize(
    ("num_instances", "void", "training", "autocast"),
    [(0, True, True, False), (1, True, False, False), (5, False, True, True)],
)
def test_losses_and_results_in_every_mode(every_network, num_instances, void, training, autocast):
    """Finite and of full precision; the losses reach every parameter of their part."""
    network = every_network.train(training)
    network.zero_grad()
    batch = _batch(0, 1, num_instances=num_instances, void=void)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        losses, predictions = _loss(network, batch), _predict(network, batch)
    assert set(losses) == set(compute_loss_weights(network.options))
    assert network.num_iterations or network.options.roi.cascade or set(losses) == LOSSES
    assert all(v.dtype == torch.float32 and torch.isfinite(v) for v in losses.values())
    _total(network, losses).backward()
    # DDP needs a gradient everywhere, also without instances or semantic pixels
    learning = {n: p for n, p in network.named_parameters() if p.requires_grad}
    assert [n for n, p in learning.items() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in learning.values())
    assert len(predictions) == 2
    for prediction in predictions:
        count = len(prediction.boxes)
        assert prediction.mask_logits.shape == (count, 28, 28)
        assert prediction.scores.shape == prediction.labels.shape == (count,)
        assert prediction.semantic_logits.shape == (NUM_CATEGORIES, 16, 24)
        assert prediction.semantic_logits.dtype == prediction.mask_logits.dtype == torch.float32
        assert (prediction.scores[:-1] >= prediction.scores[1:]).all()


@pytest.mark.parametrize("iterations", [0, 3])
@torch.no_grad()
def test_only_the_drawn_sample_is_random(iterations):
    network, batch = tiny_network(iterations=iterations), _batch()
    first, again, other = (_loss(network, batch, seed=s) for s in (1, 1, 2))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["rpn_objectness"], other["rpn_objectness"])


def test_without_proposals_or_detections_it_still_trains_and_predicts(every_network, monkeypatch):
    network, batch = every_network.train(), _batch(num_instances=0)
    with monkeypatch.context() as patch:
        patch.setattr(network.options.roi, "score_thresh", 1.0)
        (raw,) = _predict(network, batch)
    assert raw.boxes.shape == (0, 4)
    assert raw.mask_logits.shape == (0, 28, 28)
    for limit in ("post_nms_train", "post_nms_eval"):
        monkeypatch.setattr(network.options.proposals, limit, 0)
    losses = _loss(network, batch)
    _total(network, losses).backward()
    assert all(float(v.detach()) == 0.0 for k, v in losses.items() if k.startswith(("box", "mask")))
    assert len(_predict(network, batch)[0].boxes) == 0


def test_padding_is_zero_after_normalisation():
    batch = _batch()
    batch.image_sizes = ((40, 50),)
    images = tiny_network().normalize(batch)
    assert float(images[:, :, 40:].abs().sum() + images[:, :, :, 50:].abs().sum()) == 0
    assert float(images[:, :, :40, :50].abs().sum()) > 0


def test_overfits_one_batch():
    network, batch = tiny_network(iterations=2, frozen_stages=5), _batch(size=(64, 64))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    history = []
    for _ in range(15):
        optimizer.zero_grad()
        history.append(_total(network, _loss(network, batch)))
        history[-1].backward()
        optimizer.step()
    assert history[-1] < 0.7 * history[0]


def test_memory_format_does_not_change_the_result():
    channels_last, plain = tiny_network(), tiny_network(sections={"channels_last": False})
    plain.load_state_dict(channels_last.state_dict())
    assert not plain.backbone.stem.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    losses, expected = (_loss(network, _batch()) for network in (plain, channels_last))
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)


def test_without_iterations_it_is_the_plain_baseline():
    """Oracle 1."""
    network, batch = tiny_network().eval(), _batch()
    (raw,) = _predict(network, batch)
    with torch.no_grad():
        expected = plain_baseline(network, batch)
    found = (raw.boxes, raw.scores, raw.labels, raw.mask_logits, raw.semantic_logits[None][0])
    assert len(raw.boxes) > 0
    for ours, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)  # boxes in pixels


def _is_reached(module):
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())


@pytest.mark.parametrize(
    ("detach", "loss", "masks", "semantics"),
    [
        ("none", "semantic_2", [True, True, False], [True, True, True, False]),
        ("none", "mask_2", [True, True, False], [True, True, False, False]),
        ("both", "semantic_2", [False, False, False], [False, False, True, False]),
        ("both", "mask_2", [False, True, False], [False, False, False, False]),
        # a canvas with its gradient, but masks that read detached semantics: one route alone
        ("sem_to_ins", "semantic_2", [False, True, False], [False, False, True, False]),
        ("sem_to_ins", "mask_2", [False, True, False], [False, False, False, False]),
        ("ins_to_sem", "semantic_2", [False, False, False], [False, False, True, False]),
        ("ins_to_sem", "mask_2", [False, True, False], [False, True, False, False]),
    ],
)
def test_losses_of_an_iteration_reach_the_other_task_and_nothing_later(
    detach, loss, masks, semantics
):
    """Oracle 4, through the whole network; detached, they stay with their own head."""
    network = tiny_network(iterations=3, detach=detach, frozen_stages=5)
    _loss(network, _batch(num_instances=4))[loss].backward()
    ibpp = network.ibpp
    assert [_is_reached(h) for h in ibpp.mask_heads] == masks
    assert [_is_reached(h) for h in (ibpp.semantic_predictor, *ibpp.refined_heads)] == semantics


@torch.no_grad()
def test_the_canvas_fades_in():
    network = tiny_network(iterations=1, canvas_warmup_steps=10)
    losses = [_loss(network, _batch(), step=step)["semantic_1"] for step in (0, 5, 10, 99)]
    assert len({float(loss) for loss in losses}) == 3
    assert losses[2] == losses[3]


@pytest.mark.parametrize(("canvas_thresh", "is_exact"), [(0.27, True), (0.05, False)])
def test_panoptic_only_is_exact_if_nothing_weaker_reaches_the_canvas(canvas_thresh, is_exact):
    network = tiny_network(iterations=2, canvas_score_thresh=canvas_thresh).eval()
    network.options.roi.max_detections = 100
    predictions = (_predict(network, _batch(0, 1), min_score=least) for least in (0.0, 0.27))
    for whole, few in zip(*predictions, strict=True):
        kept = whole.scores >= 0.27
        assert 0 < len(few.boxes) < len(whole.boxes)
        for name in ("boxes", "scores", "labels"):
            assert torch.equal(getattr(whole, name)[kept], getattr(few, name))
        masks = whole.mask_logits[kept], few.mask_logits
        for a, b in (masks, (whole.semantic_logits, few.semantic_logits)):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-5) == is_exact


@pytest.mark.parametrize("direction", ["both", "sem_to_ins"])
def test_masks_that_no_canvas_shows_wait_for_the_last_iteration(direction):
    thresh = 0.33 if direction == "both" else 0.0
    network = tiny_network(iterations=3, direction=direction, canvas_score_thresh=thresh).eval()
    counts = []
    for head in network.ibpp.mask_heads:
        head.register_forward_hook(lambda _, args, masks: counts.append(len(masks)))
    found = _predict(network, _batch(0, 1))
    scores = torch.cat([raw.scores for raw in found])
    shown = int((scores >= thresh).sum()) if direction == "both" else 0
    assert shown < len(scores)
    assert counts == [shown, shown, len(scores)]
    with torch.no_grad():
        traces = network.trace(_batch(0, 1))  # which asks for all masks
    assert counts[3:] == [len(scores)] * 3
    for raw, trace in zip(found, traces, strict=True):
        for name in ("mask_logits", "semantic_logits"):
            pair = (getattr(one, name) for one in (raw, trace[-1].raw))
            torch.testing.assert_close(*pair, rtol=1e-5, atol=1e-5)


def test_trace_ends_where_predict_ends(every_network):
    network, batch = every_network.eval(), _batch(0, 1)
    with torch.no_grad():
        traces = network.trace(batch)
    for raw, trace in zip(_predict(network, batch), traces, strict=True):
        assert len(trace) == network.num_iterations + 1
        assert torch.equal(trace[-1].raw.semantic_logits, raw.semantic_logits)
        if network.options.ibpp.mask_ensemble != "mean":
            assert torch.equal(trace[-1].raw.mask_logits, raw.mask_logits)
        assert trace[0].canvas.shape == (NUM_THINGS, 16, 24)
        assert float(trace[0].canvas.sum()) == 0
        if network.num_iterations:
            assert len(trace[0].raw.boxes) == 0
            assert (float(trace[-1].canvas.max()) > 0) == (network.options.ibpp.direction != "none")


def test_given_boxes_are_traced_in_place_of_detections():
    network, batch = tiny_network(iterations=2).eval(), _batch(0, 1)
    boxes, labels = [t.boxes for t in batch.targets], [t.labels for t in batch.targets]
    with torch.no_grad():
        traces = network.trace(batch, (boxes, labels))
        expected = network.observe_boxes(batch, boxes, labels)
    for trace, seen in zip(traces, expected, strict=True):
        assert torch.equal(trace[-1].raw.boxes, seen.raw.boxes)
        assert torch.equal(trace[-1].raw.mask_logits, seen.raw.mask_logits)
        assert torch.equal(trace[-1].raw.semantic_logits, seen.raw.semantic_logits)


def test_false_positives_are_on_the_canvas_but_have_no_mask_loss():
    losses = [
        _loss(tiny_network(iterations=1, canvas_false_positives=count, **options), _batch())
        for options in ({}, {"direction": "none"})
        for count in (0, 8)
    ]
    changed = [{k for k in a if a[k] != b[k]} for a, b in (losses[:2], losses[2:])]
    assert changed == [{"semantic_1"}, set()]


def test_inputs_are_measured_where_they_cross():
    torch.manual_seed(0)
    network, batch = tiny_network(iterations=2).eval(), _batch()
    measured = network.measure_inputs(batch)
    assert list(measured) == ["f_ins", "F_sem", "f_sem", "p_sem", "canvas"]
    with torch.no_grad():
        feature = network.semantic_trunk(network.backbone(network.normalize(batch))[:4]).numpy()
        canvas = network.trace(batch)[0][-1].canvas.numpy()
    expected = feature.mean(), np.sqrt(np.square(feature, dtype=np.float64).mean())
    assert measured["F_sem"] == pytest.approx(expected, rel=1e-5)
    planes = canvas[canvas.any(axis=(1, 2))]
    assert measured["canvas"][0] == pytest.approx(planes.mean(), rel=1e-5)
    control = tiny_network(iterations=1, direction="none").eval().measure_inputs(batch)
    assert list(control) == ["f_ins", "F_sem"]
