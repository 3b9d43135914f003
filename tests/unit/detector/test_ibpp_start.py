"""How the variants of IBPP start: from the same weights, and, if they are to, as their control."""

import numpy as np
import pytest
import torch

from make.batches import fake_batch, fake_sample, tiny_network
from oracles.ibpp import iterate
from refine.detector.ibpp import IBPP
from refine.detector.losses import compute_loss_weights, total_loss
from refine.detector.rois import RoIs
from refine.options import IBPPOptions, RoIOptions

SOUND = {"refine": "residual", "join": "embedding", "mask_start": "zero"}
BOXES = [0.7438768, 0.2346383, 1.5712571, 0.1997509]  # RPN and first stage
LATER = [1.5771128, 0.261539, 1.5865359, 0.2573301, 2.839278]  # stages 2 and 3, semantic_0
BEFORE = {
    "cascade": ({"cascade": True}, [*LATER[:4], 0.7268814, 2.839278]),
    "both": (
        {"iterations": 3},
        [*LATER, 0.7609415, 1.7274102, 0.8035706, 1.7273697, 0.7613493, 1.7273712],
    ),
    "sem_to_ins": (
        {"iterations": 3, "direction": "sem_to_ins"},
        [*LATER, 0.7609415, 1.7008623, 0.8062196, 1.7008623, 0.7634299, 1.7008623],
    ),
    "ins_to_sem": (
        {"iterations": 3, "direction": "ins_to_sem"},
        [*LATER, 0.7238344, 1.7274141, 0.7229342, 1.7273747, 0.7079859, 1.7273707],
    ),
    "features": (
        {"iterations": 3, "carry": "features"},
        [*LATER, 0.7197604, 1.7008623, 0.7477592, 1.7008623, 0.7157857, 1.7008623],
    ),
    "given boxes, mask features flow": (
        {"iterations": 2, "mask_rois": "stage_input", "mask_info_flow": True},
        [*LATER[:2], 2.839278, 0.7673752, 1.7274083, 0.8028778, 1.7273644],
    ),
}


def _batch():
    seeds = (np.random.default_rng(k) for k in (0, 1))
    return fake_batch([fake_sample(rng, num_instances=4) for rng in seeds])


def _loss(network):
    return network.loss(_batch(), generator=torch.Generator().manual_seed(0))


def _seeded(seed=0, **options):
    torch.manual_seed(seed)
    return tiny_network(**options)


@torch.no_grad()
def _fill(network):
    """Weights that look like noise and follow from a parameter's name and shape alone."""
    for name, parameter in network.named_parameters():
        if parameter.dim() == 1:
            parameter.fill_(float(name.endswith("weight") and "predictor" not in name))
            continue
        numbers = torch.arange(parameter.numel(), dtype=torch.float64) + len(name)
        noise = ((numbers * 12.9898).sin() * 43758.5453).frac().view(parameter.shape)
        parameter.copy_(noise * (3 / parameter[0].numel()) ** 0.5)


@pytest.mark.parametrize(("options", "expected"), BEFORE.values(), ids=BEFORE)
def test_plain_switches_give_the_losses_of_before(options, expected):
    """The values were computed by the code as it was before it had these switches.

    Samples have been drawn otherwise since: these are its values with the draw of now.
    """
    network = tiny_network(**options)
    _fill(network)
    found = [float(value.detach()) for value in _loss(network).values()]
    assert found == pytest.approx([*BOXES, *expected], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"direction": "sem_to_ins"},
        {"direction": "ins_to_sem"},
        {"carry": "features"},
        {"carry": "predictions"},
        {"mask_info_flow": True},
        {"share_heads": True, "mask_ensemble": "mean"},
        {"refine_convs": 0},
        {"iterations": 1, "mask_rois": "final", "mask_rois_add_truth": True},
    ],
    ids=str,
)
def test_a_sound_start_is_its_control(options):
    common = {"iterations": 3} | SOUND | options
    variant, control = (_seeded(**common | d).eval() for d in ({}, {"direction": "none"}))
    torch.testing.assert_close(_loss(variant), _loss(control), rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        traces = [network.trace(_batch()) for network in (variant, control)]
    for trace, other in zip(*traces, strict=True):
        for found, expected in zip(trace, other, strict=True):
            torch.testing.assert_close(found.raw.mask_logits, expected.raw.mask_logits)
            assert torch.equal(found.raw.semantic_logits, expected.raw.semantic_logits)
            assert torch.equal(found.raw.semantic_logits, trace[0].raw.semantic_logits)


def test_a_plain_start_is_not_its_control():
    variant, control = (_seeded(iterations=2, direction=d) for d in ("both", "none"))
    found, expected = _loss(variant), _loss(control)
    assert {k for k in found if found[k] != expected[k]} >= {"mask_1", "semantic_1", "mask_2"}


def test_after_a_step_from_a_sound_start_everything_crosses():
    network = _seeded(iterations=2, **SOUND)
    for _ in range(2):
        network.zero_grad()
        total_loss(_loss(network), compute_loss_weights(network.options)).backward()
        with torch.no_grad():
            for parameter in network.ibpp.parameters():
                parameter -= 0.1 * parameter.grad
    ibpp, things = network.ibpp, network.num_things
    for head in ibpp.mask_heads:
        assert (head.convs[0][0].weight.grad[:, 32:].abs().amax(dim=(0, 2, 3)) > 0).all()
    for head in ibpp.refined_heads:
        assert float(head.convs[0][0].weight.grad[:, :things].abs().max()) > 0
    assert bool((ibpp.embedding.weight != 0).any())


@pytest.mark.parametrize(
    "options",
    [
        {"iterations": 1},
        {"iterations": 0, "cascade": True},
        {"iterations": 3, "direction": "none"},
        {"iterations": 3, "direction": "sem_to_ins", "mask_start": "zero"},
        {"iterations": 3, "direction": "ins_to_sem", "join": "embedding"},
        {"iterations": 3, "carry": "features", "mask_info_flow": True},
    ],
    ids=str,
)
def test_variants_share_the_weights_that_both_have(options):
    variant, whole = _seeded(**options), _seeded(iterations=3, mask_info_flow=True)
    theirs = dict(whole.named_parameters())
    for name, parameter in variant.named_parameters():
        if "embedding" in name or "stages.0.head.regressor" in name:  # one box, or one per category
            continue
        pair = [_without_crossing(name, p) for p in (parameter, theirs[name])]
        assert torch.equal(*pair), name


def _without_crossing(name, weight):
    """Weights on F_sem and on RoI features, which every variant has."""
    if "refined_heads" in name and "convs.0.0" in name:
        return weight[:, -32:]
    if "mask_heads" in name and "convs.0.0.weight" in name:
        return weight[:, :32]
    return weight[:32] if "earlier" in name else weight


def test_heads_and_seeds_differ():
    first, second = _seeded(0, iterations=2), _seeded(1, iterations=2)
    weights = [
        head.convs[0][0].weight
        for ibpp in (first.ibpp, second.ibpp)
        for heads in (ibpp.mask_heads, ibpp.refined_heads)
        for head in heads
    ]
    assert len({float(w[0, 0, 0, 0]) for w in weights}) == len(weights) == 8


def test_building_a_network_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    _seeded(3, iterations=1)
    assert torch.equal(torch.rand(1), expected)


def test_iterations_with_all_switches_equal_plain_loops():
    torch.manual_seed(0)
    ibpp = IBPP(
        IBPPOptions(num_iterations=2, **SOUND),
        roi=RoIOptions(mask_channels=32, mask_convs=1, sampling_ratio=2),
        channels=32, semantic_channels=64, num_things=3, num_categories=5,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in ibpp.parameters():  # nothing is zero, and masks are far from one half
            parameter += 0.1 * torch.randn_like(parameter)
    corners = torch.rand(4, 2) * 30
    boxes = torch.cat([corners, corners + 15 + 20 * torch.rand(4, 2)], dim=1)
    rois = RoIs.of_detections(boxes, torch.tensor([2, 0, 2, 1]), torch.rand(4) + 0.1)
    pooled, feature = torch.randn(4, 32, 14, 14), torch.randn(1, 64, 16, 24)
    with torch.no_grad():
        joined = ibpp.join_features(pooled, feature, [boxes])
        start = ibpp.predict_semantics(feature)
        _, *found = ibpp.iterate(feature, start, [(rois, joined)] * 2)
        expected = iterate(
            ibpp.state_dict(), (boxes, rois.labels, rois.scores), pooled, feature,
            num_iterations=2, num_things=3,
        )  # fmt: skip
    for output, (masks, logits) in zip(found, expected, strict=True):
        torch.testing.assert_close(output.mask_logits, masks, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(output.semantic_logits, logits, rtol=1e-4, atol=1e-4)
