"""Stage ``soe``: the order of overlapping instances, by the occlusion network.

Ours computes an instance's share of the first convolution once. The usual way puts the inputs of
every pair side by side, chunk by chunk as ours does. The pairs are those that overlap by rho = 0.2
in an image of blobs, in both orders.

The last case is one program twice, for the time of a pair must not grow with their number: all 4950
pairs of 100 instances, against 99 images of 50.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.case import Case, extra_mib
from benchmark.scenes import make_detections
from refine.fusion.overlaps import pair_overlaps
from refine.ops.masks import paste_masks
from refine.options import OcclusionOptions, RelationsOptions
from refine.order.occlusion_head import OcclusionHead

GOAL = 1.2
MAX_GROWTH = 2.0
MAX_EXTRA_MIB = 2048
NUM_THINGS = 80
SIZE = (800, 1333)
COUNTS = (10, 50, 100)
FEW_PAIRS, FEW_INSTANCES = 50, 11


class Width(NamedTuple):
    """How large a network is."""

    name: str
    in_channels: int
    options: OcclusionOptions


PAPER = Width("paper", 256, OcclusionOptions())
TOY = Width("toy", 64, OcclusionOptions(channels=128, num_convs=2, fc_channels=256))


class Scene(NamedTuple):
    """What a head reads of an image."""

    features: Tensor
    masks: Tensor
    labels: Tensor
    pairs: Tensor


def build() -> list[Case]:
    """Both widths at three numbers of instances; then the growth with the pairs."""
    torch.set_num_threads(1)
    cases = [
        _case(width, count, rounds=1 if width is PAPER else 3)
        for width in (TOY, PAPER)
        for count in COUNTS
    ]
    return [*cases, _growth_case(TOY)]


def _case(width: Width, count: int, *, rounds: int) -> Case:
    head, scene = _make_head(width), _make_scene(width, count)
    name = f"soe, {width.name}, {count} instances"
    extra = extra_mib(prepare, width, count)
    print(f"{name}: {len(scene.pairs)} ordered pairs, {extra:.0f} MiB extra")

    def check() -> None:
        assert not extra > MAX_EXTRA_MIB, f"{extra:.0f} MiB extra, allowed are {MAX_EXTRA_MIB}"
        part = scene._replace(pairs=scene.pairs[:40])
        assert len(part.pairs) >= 2, "the scene is too easy"
        ours, theirs = _ask(head, part), _ask_plainly(head, part)
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4), "answers differ"
        assert len(set(ours.tolist())) == len(ours), "the answers do not depend on the pair"

    return Case(
        name=name,
        ours=partial(_ask, head, scene),
        peer=partial(_ask_plainly, head, scene),
        check=check,
        goal=GOAL,
        rounds=rounds,
    )


def _growth_case(width: Width) -> Case:
    head = _make_head(width)
    many = _with_all_pairs(_make_scene(width, COUNTS[-1]))
    few = _with_all_pairs(_make_scene(width, FEW_INSTANCES))
    few = few._replace(pairs=few.pairs[:FEW_PAIRS])
    images = len(many.pairs) // FEW_PAIRS

    def check() -> None:
        features, masks, labels = (t[:FEW_INSTANCES] for t in many[:3])
        there = _ask(head, many._replace(pairs=few.pairs))
        alone = _ask(head, Scene(features, masks, labels, few.pairs))
        assert torch.allclose(there, alone, rtol=1e-3, atol=1e-4), "answers differ"

    return Case(
        name=f"soe, {width.name}, {len(many.pairs)} pairs to {FEW_PAIRS}",
        ours=partial(_ask, head, many),
        peer=lambda: [_ask(head, few) for _ in range(images)],
        check=check,
        goal=1 / MAX_GROWTH,
        rounds=1,
    )


def _with_all_pairs(scene: Scene) -> Scene:
    return scene._replace(pairs=torch.combinations(torch.arange(len(scene.labels)), 2))


@torch.no_grad()
def _ask(head: OcclusionHead, scene: Scene) -> Tensor:
    logits: Tensor = head(*scene)
    return logits


@torch.no_grad()
def _ask_plainly(head: OcclusionHead, scene: Scene) -> Tensor:
    chunks = torch.split(scene.pairs, head.options.chunk_size)
    return torch.cat([_ask_chunk(head, scene, chunk) for chunk in chunks])


def _ask_chunk(head: OcclusionHead, scene: Scene, pairs: Tensor) -> Tensor:
    assert head.first is not None
    assert head.trunk is not None
    assert head.labels is not None
    shapes = F.max_pool2d(scene.masks[:, None], 2)
    inputs = [t[k] for k in pairs.T for t in (scene.features, shapes)]
    *convolutions, fc1 = head.trunk
    assert isinstance(fc1, nn.Linear)
    x = F.relu(head.first(torch.cat(inputs, dim=1)))
    for layer in convolutions:
        x = layer(x)
    one_hot = [F.one_hot(scene.labels[k], NUM_THINGS).float() for k in pairs.T]
    weight = torch.cat([fc1.weight, head.labels.flatten(0, 1).T], dim=1)
    hidden = F.relu(F.linear(torch.cat([x, *one_hot], dim=1), weight, head.bias))
    logits: Tensor = head.predictor(F.relu(head.fc2(hidden)))[:, 0]
    return logits


def _make_head(width: Width) -> OcclusionHead:
    torch.manual_seed(0)
    return OcclusionHead(width.in_channels, NUM_THINGS, options=width.options).eval()


def _make_scene(width: Width, count: int) -> Scene:
    generator = torch.Generator().manual_seed(0)
    detections = make_detections(SIZE, count=count)
    crops = paste_masks(detections.probabilities, detections.boxes, SIZE, threshold=0.5)
    overlaps = pair_overlaps(crops)
    is_asked = (overlaps.shares >= RelationsOptions().overlap_thresh).any(axis=1)
    pairs = torch.from_numpy(overlaps.pairs[is_asked])
    return Scene(
        features=torch.randn(count, width.in_channels, 14, 14, generator=generator),
        masks=torch.from_numpy(detections.probabilities),
        labels=torch.randint(NUM_THINGS, (count,), generator=generator),
        pairs=torch.cat([pairs, pairs.flip(1)]),
    )


def prepare(width: Width, count: int) -> Callable[[], object]:
    """One answer; the pairs of two chunks show the memory that it takes."""
    head, scene = _make_head(width), _make_scene(width, count)
    some = scene._replace(pairs=scene.pairs[: 2 * head.options.chunk_size])
    return partial(_ask, head, some)
