import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet34, resnet50, resnet152, resnext101_32x8d
from torchvision.ops import FrozenBatchNorm2d

from make.batches import fake_batch, fake_sample, tiny_network
from refine.detector.backbone import build_backbone, published_keys, register_backbone
from refine.detector.deformable import DeformableConv
from refine.detector.losses import compute_loss_weights, total_loss
from refine.errors import RefineError
from refine.options import BACKBONES, NORMS, BackboneOptions, OptimizerOptions
from refine.training.optim import build_optimizer

V1 = {"dcn_stages": [2, 3, 4]}
V2 = {**V1, "dcn_modulated": True, "dcn_groups": 2}
IMAGES = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


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


def _network(**options):
    """Normalised by calm statistics of no data, or activations of a deep network explode."""
    torch.manual_seed(0)
    network = tiny_network(sections={"backbone": _options(**{"frozen_stages": 0} | options)})
    for name, buffer in network.backbone.named_buffers():
        if name.endswith(("bn2.weight", "bn3.weight")):
            buffer.fill_(0.1)
    return network


def _batch(count):
    rng = np.random.default_rng(0)
    return fake_batch([fake_sample(rng, size=(64, 64)) for _ in range(count)])


def _loss(network, batch):
    losses = network.loss(batch, generator=torch.Generator().manual_seed(0))
    return total_loss(losses, compute_loss_weights(network.options))


def _gradients(backbone, images):
    """Of a smooth function of all levels by every parameter that learns."""
    sum(level.sin().mean() for level in backbone(images)).backward()
    return {n: p.grad for n, p in backbone.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", [*BACKBONES])
def test_levels_have_the_declared_channels_and_strides(name):
    with torch.device("meta"):
        backbone = build_backbone(_options(name=name, **V2))
        levels = backbone.eval()(torch.zeros(2, 3, 128, 192))
    sizes = [tuple(level.shape) for level in levels]
    assert sizes == [(2, backbone.channels, 128 // s, 192 // s) for s in backbone.strides]


@pytest.mark.parametrize(
    ("name", "norm", "dcn"),
    [
        *[("r18", norm, V1 if norm == "bn" else V2) for norm in NORMS],
        ("r18", "gn", {}),
        *[pytest.param(name, "gn", V2, marks=pytest.mark.slow) for name in [*BACKBONES][1:]],
    ],
    ids=str,
)
def test_it_trains_and_predicts_one_image_and_two(name, norm, dcn):
    network = _network(name=name, norm=norm, **dcn)
    learning = [p for p in network.parameters() if p.requires_grad]
    for count in (1, 2):
        network.train().zero_grad()
        _loss(network, _batch(count)).backward()
        assert all(torch.isfinite(p.grad).all() for p in learning)
        with torch.no_grad():
            raws = network.eval().predict(_batch(count))
        assert len(raws) == count
        assert all(torch.isfinite(raw.semantic_logits).all() for raw in raws)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("r18", resnet18), ("r34", resnet34), ("r50", resnet50), ("r152", resnet152),
        ("x101_32x8d", resnext101_32x8d),
    ],
)  # fmt: skip
def test_published_keys_are_those_of_torchvision(name, model):
    with torch.device("meta"):
        backbone = build_backbone(_options(name=name, norm="bn", dcn_stages=[1, 2, 3, 4]))
        expected = {k: v.shape for k, v in model().state_dict().items() if k.split(".")[0] != "fc"}
    state = backbone.state_dict()
    found = {theirs: state[ours].shape for theirs, ours in published_keys(backbone).items()}
    assert found == expected


@pytest.mark.parametrize("dcn", [{}, V2], ids=str)
def test_frozen_norms_are_those_of_torchvision_however_they_are_computed(dcn):
    """A deformable convolution starts as the plain one."""
    torch.manual_seed(0)
    body = resnet50(norm_layer=FrozenBatchNorm2d)
    for module in body.modules():
        if isinstance(module, FrozenBatchNorm2d):
            for buffer, low in ((module.weight, 0.2), (module.running_var, 0.5)):
                buffer.uniform_(low, 3 * low)
            for buffer in (module.bias, module.running_mean):
                buffer.normal_(std=0.3)
    backbone = _backbone(name="r50", norm="frozen_bn", **dcn).double()
    state, theirs = backbone.state_dict(), body.double().state_dict()
    backbone.load_state_dict(state | {k: theirs[t] for t, k in published_keys(backbone).items()})
    x, features = body.maxpool(body.relu(body.bn1(body.conv1(IMAGES.double())))), {}
    for k in range(1, 5):
        features[f"layer{k}"] = x = getattr(body, f"layer{k}")(x)
    for found, expected in zip(
        backbone(IMAGES.double()), backbone.fpn(features).values(), strict=True
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_frozen_stages_do_not_learn(count):
    backbone = build_backbone(_options(frozen_stages=count))
    parts = [backbone.stem, *backbone.stages.values()]
    learning = [any(p.requires_grad for p in part.parameters()) for part in parts]
    assert learning == [False] * count + [True] * (5 - count)
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
    assert not any(k.startswith(("stem.", "stages.layer1.", "stages.layer2.")) for k in moved)
    learning = {"stages.layer3.0.conv2.weight", "stages.layer3.0.conv2.offsets.weight"}
    if norm in ("bn", "sync_bn"):
        learning.add("stages.layer3.0.bn1.running_mean")
    assert learning <= moved


@pytest.mark.parametrize(("norm", "dcn"), [("gn", V2), ("frozen_bn", {})], ids=str)
def test_checkpointing_gives_the_same_gradients_and_keeps_less(norm, dcn):
    found, kept = [], [0, 0]
    for checkpointing in (False, True):
        options = {"norm": norm, "frozen_stages": 2, **dcn}
        backbone = _backbone(shift=0.01, activation_checkpointing=checkpointing, **options)

        def keep(tensor, checkpointing=checkpointing):
            kept[checkpointing] += tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            found.append(_gradients(backbone, IMAGES))
    assert kept[1] < 0.7 * kept[0]
    torch.testing.assert_close(found[1], found[0])


def _assert_equal_results(ours, theirs, images, others=None):
    """Levels and gradients to 1e-4 of their size.

    In float64, because the gradient of a deformable convolution jumps where a tap crosses a pixel:
    rounding in float32 moves single taps across.
    """
    others = images if others is None else others
    pairs = [*zip(ours(others), theirs(images), strict=True)]
    gradients = (_gradients(ours, others).values(), _gradients(theirs, images).values())
    pairs += zip(*gradients, strict=True)
    assert max(float((a - b).detach().norm() / b.detach().norm()) for a, b in pairs) < 1e-4


def test_channels_last_changes_nothing():
    plain, last = (_backbone(shift=0.01, frozen_stages=0, **V2).double() for _ in range(2))
    images = IMAGES.double()
    channels_last = images.contiguous(memory_format=torch.channels_last)
    last.to(memory_format=torch.channels_last)
    _assert_equal_results(last, plain, images, channels_last)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "part", "checkpointing"),
    [("inductor", "layer2", False), ("aot_eager", "all", False), ("aot_eager", "all", True)],
)
def test_compiling_changes_nothing(backend, part, checkpointing):
    torch.compiler.reset()
    options = {"frozen_stages": 1, "activation_checkpointing": checkpointing, **V2}
    eager, compiled = (_backbone(shift=0.01, **options).double() for _ in range(2))
    x = IMAGES.double()
    if part != "all":
        eager, compiled = (nn.Sequential(b.stages[part]) for b in (eager, compiled))
        x = torch.randn(1, 64, 16, 24, dtype=torch.float64)
    compiled.compile(backend=backend)
    _assert_equal_results(compiled, eager, x)


class _Pooling(nn.Module):
    """Means over squares: a body whose features are known."""

    channels = (3, 3, 3, 3)

    def __init__(self, _):
        super().__init__()

    def forward(self, images):
        return [nn.functional.avg_pool2d(images, stride) for stride in (4, 8, 16, 32)]


def test_a_registered_body_stands_below_the_pyramid(monkeypatch):
    monkeypatch.setattr(BACKBONES, "added", {})
    assert register_backbone("pooling")(_Pooling) is _Pooling
    backbone = build_backbone(_options(name="pooling", frozen_stages=0))
    means = [nn.functional.avg_pool2d(IMAGES, stride) for stride in (4, 8, 16, 32)]
    expected = backbone.fpn({f"{k}": mean for k, mean in enumerate(means)})
    for level, wanted in zip(backbone(IMAGES), expected.values(), strict=True):
        torch.testing.assert_close(level, wanted)
    assert [tuple(level.shape[1:]) for level in backbone(IMAGES)] == [
        (32, 64 // stride, 64 // stride) for stride in backbone.strides
    ]


def test_a_registered_body_of_other_shapes_is_refused(monkeypatch):
    monkeypatch.setattr(BACKBONES, "added", {})
    register_backbone("none")(lambda options: nn.Identity())
    with pytest.raises(RefineError, match="built Identity with channels=None; expected a module"):
        build_backbone(_options(name="none", frozen_stages=0))
    body = nn.Identity()
    body.channels = (3, 3, 3, 3)
    register_backbone("identity")(lambda options: body)
    with pytest.raises(RefineError, match=r"expected \[\(1, 3, 16, 16\), \(1, 3, 8, 8\)"):
        build_backbone(_options(name="identity", frozen_stages=0))(IMAGES)
    with pytest.raises(ValueError, match="name of a backbone='r50': expected another name"):
        register_backbone("r50")
