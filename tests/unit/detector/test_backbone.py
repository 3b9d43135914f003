import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet50, resnext101_32x8d

from make.batches import NUM_CATEGORIES, NUM_THINGS, fake_batch, fake_sample, tiny_options
from refine.detector.backbone import build_backbone, published_keys
from refine.detector.deformable import DeformableConv
from refine.detector.losses import compute_loss_weights, total_loss
from refine.detector.refine_net import RefineNet
from refine.options import BACKBONES, NORMS, AnchorOptions, BackboneOptions, OptimizerOptions
from refine.training.optim import build_optimizer

DCN = {
    "plain": {},
    "v1": {"dcn_stages": [2, 3, 4]},
    "v2": {"dcn_stages": [2, 3, 4], "dcn_modulated": True, "dcn_groups": 2},
}


def _options(**options):
    return BackboneOptions(**{"name": "r18", "norm": "gn", "fpn_channels": 32} | options)


def _backbone(*, shift=0.0, **options):
    """Random weights; ``shift`` moves the offsets away from nothing."""
    torch.manual_seed(0)
    backbone = build_backbone(_options(**options))
    for module in backbone.modules():
        if isinstance(module, DeformableConv) and shift:
            nn.init.normal_(module.offsets.weight, std=shift)
    return backbone


def _calm(backbone):
    """Fixed statistics of no data: without this the activations of a deep network explode."""
    for name, buffer in backbone.named_buffers():
        if name.endswith(("bn2.weight", "bn3.weight")):
            buffer.fill_(0.1)


def _network(**options):
    whole = tiny_options()
    whole.backbone = _options(**{"frozen_stages": 0} | options)
    torch.manual_seed(0)
    network = RefineNet(
        whole,
        anchors=AnchorOptions(sizes_px=[8, 16, 32, 64, 128]),
        num_things=NUM_THINGS,
        num_categories=NUM_CATEGORIES,
    )
    _calm(network.backbone)
    return network


def _batch(count):
    rng = np.random.default_rng(0)
    return fake_batch([fake_sample(rng, size=(64, 64)) for _ in range(count)])


def _loss(network, batch):
    losses = network.loss(batch, generator=torch.Generator().manual_seed(0))
    return total_loss(losses, compute_loss_weights(network.options))


def _gradients(backbone, images):
    """Of a smooth function of all levels by every parameter that learns."""
    levels = backbone(images)
    sum(level.sin().mean() for level in levels).backward()
    return {n: p.grad for n, p in backbone.named_parameters() if p.grad is not None}


def _images(count=1):
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def _relative(ours, theirs):
    return float((ours - theirs).detach().norm() / theirs.detach().norm())


def test_levels_have_the_declared_channels_and_strides():
    backbone = build_backbone(_options(fpn_channels=64))
    levels = backbone(torch.zeros(1, 3, 128, 192))
    sizes = [tuple(level.shape[1:]) for level in levels]
    assert sizes == [(backbone.channels, 128 // s, 192 // s) for s in backbone.strides]


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_gives_five_levels(name):
    with torch.device("meta"):
        backbone = build_backbone(_options(name=name, **DCN["v2"]))
        levels = backbone.eval()(torch.zeros(2, 3, 64, 64))
    assert [level.shape[-1] for level in levels] == [16, 8, 4, 2, 1]


@pytest.mark.parametrize(
    ("name", "norm", "dcn"),
    [
        *[("r18", norm, "v2") for norm in NORMS],
        *[("r18", "gn", "plain"), ("r18", "gn", "v1")],
        *[pytest.param(name, "gn", "v2", marks=pytest.mark.slow) for name in BACKBONES[1:]],
    ],
)
def test_it_trains_and_predicts_one_image_and_two(name, norm, dcn):
    network = _network(name=name, norm=norm, **DCN[dcn])
    learning = [p for p in network.parameters() if p.requires_grad]
    for count in (1, 2):
        network.train().zero_grad()
        _loss(network, _batch(count)).backward()
        assert all(torch.isfinite(p.grad).all() for p in learning)
        with torch.no_grad():
            raws = network.eval().predict(_batch(count))
        assert len(raws) == count
        assert all(torch.isfinite(raw.semantic_logits).all() for raw in raws)


def test_deformable_stages_start_as_the_plain_network():
    plain, deformable = _backbone(), _backbone(**DCN["v2"])
    deformable.load_state_dict(plain.state_dict(), strict=False)
    assert sum(isinstance(m, DeformableConv) for m in deformable.modules()) == 6
    with torch.no_grad():
        for ours, theirs in zip(deformable(_images()), plain(_images()), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "model"),
    [("r18", resnet18), ("r50", resnet50), ("x101_32x8d", resnext101_32x8d)],
    ids=["r18", "r50", "x101_32x8d"],
)
def test_published_keys_are_those_of_torchvision(name, model):
    with torch.device("meta"):
        backbone = build_backbone(_options(name=name, norm="bn", dcn_stages=[1, 2, 3, 4]))
        expected = {k: v.shape for k, v in model().state_dict().items() if k.split(".")[0] != "fc"}
    state = backbone.state_dict()
    assert {theirs: state[ours].shape for theirs, ours in published_keys(backbone).items()} == (
        expected
    )


@pytest.mark.parametrize(("stages", "expected"), [(0, 0), (1, 1), (2, 2), (5, 5)])
def test_frozen_stages_do_not_learn(stages, expected):
    backbone = build_backbone(_options(frozen_stages=stages))
    parts = [backbone.stem, *backbone.stages.values()]
    frozen = [not any(p.requires_grad for p in part.parameters()) for part in parts]
    assert frozen == [True] * expected + [False] * (5 - expected)
    assert all(p.requires_grad for p in backbone.fpn.parameters())


@pytest.mark.parametrize("norm", NORMS)
def test_frozen_stages_stay_as_they_are_to_the_bit(norm):
    network = _network(norm=norm, frozen_stages=3, dcn_stages=[1, 2, 3])
    network.eval().train()
    before = {k: v.clone() for k, v in network.backbone.state_dict().items()}
    optimizer = build_optimizer(network, OptimizerOptions(name="adamw", weight_decay=0.1))
    _loss(network, _batch(1)).backward()
    optimizer.step()
    after = network.backbone.state_dict()
    moved = {k for k, v in after.items() if not torch.equal(v, before[k])}
    is_frozen = ("stem.", "stages.layer1.", "stages.layer2.")
    assert not {k for k in moved if k.startswith(is_frozen)}
    learning = {"stages.layer3.0.conv2.weight", "stages.layer3.0.conv2.offsets.weight"}
    if norm in ("bn", "sync_bn"):
        learning.add("stages.layer3.0.bn1.running_mean")
    assert learning <= moved


@pytest.mark.parametrize(("norm", "dcn"), [("gn", DCN["v2"]), ("frozen_bn", {})], ids=str)
def test_checkpointing_gives_the_same_gradients_and_keeps_less(norm, dcn):
    found, kept = [], []
    for checkpointing in (False, True):
        options = {"norm": norm, "frozen_stages": 2, **dcn}
        backbone = _backbone(shift=0.01, activation_checkpointing=checkpointing, **options)
        sizes = []

        def keep(tensor, sizes=sizes):
            sizes.append(tensor.untyped_storage().nbytes())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            found.append(_gradients(backbone, _images(1)))
        kept.append(sum(sizes))
    assert kept[1] < 0.7 * kept[0]
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, msg=name)


def test_checkpointing_is_for_training_only():
    backbone = _backbone(activation_checkpointing=True, frozen_stages=0)
    plain = _backbone(frozen_stages=0)
    with torch.no_grad():
        for ours, theirs in zip(backbone(_images()), plain(_images()), strict=True):
            assert torch.equal(ours, theirs)
    backbone.eval()(_images())[0].sum().backward()
    assert backbone.stages["layer1"][0].conv1.weight.grad is not None


def _assert_equal_results(ours, theirs, images, others=None):
    """Levels and gradients to 1e-4 of their size.

    In float64, because the gradient of a deformable convolution jumps where a tap crosses a pixel:
    rounding in float32 moves single taps across.
    """
    others = images if others is None else others
    for found, expected in zip(ours(others), theirs(images), strict=True):
        assert _relative(found, expected) < 1e-4
    found, expected = _gradients(ours, others), _gradients(theirs, images)
    assert len(found) == len(expected) > 0
    for name, gradient in expected.items():
        assert _relative(found[name], gradient) < 1e-4, name


def test_channels_last_changes_nothing():
    plain, last = (_backbone(shift=0.01, frozen_stages=0, **DCN["v2"]).double() for _ in range(2))
    images = _images(1).double()
    channels_last = images.contiguous(memory_format=torch.channels_last)
    last.to(memory_format=torch.channels_last)
    _assert_equal_results(last, plain, images, channels_last)


def _compile_pair(backend, modules):
    """Two equal modules, one of them compiled."""
    torch.compiler.reset()
    eager, compiled = (module.double() for module in modules)
    compiled.compile(backend=backend)
    return compiled, eager


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiling_a_stage_changes_nothing(backend):
    stages = (nn.Sequential(_backbone(shift=0.01, **DCN["v2"]).stages["layer2"]) for _ in range(2))
    x = torch.randn(1, 64, 16, 24, dtype=torch.float64)
    _assert_equal_results(*_compile_pair(backend, stages), x)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiling_the_backbone_changes_nothing(checkpointing):
    options = {"frozen_stages": 1, "activation_checkpointing": checkpointing, **DCN["v2"]}
    backbones = (_backbone(shift=0.01, **options) for _ in range(2))
    _assert_equal_results(*_compile_pair("aot_eager", backbones), _images(1).double())
