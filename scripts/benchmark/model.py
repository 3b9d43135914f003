"""Stage ``model``: a training step and the inference of networks, with and without IBPP.

Ours is an experiment; the peer is the same with ``model.ibpp.num_iterations=0`` on the same box
cascade, its control ``model.ibpp.direction=none``, or the baseline. Weights and pixels are random,
so score limits are switched off and every image has exactly the stated number of detections: 100 is
the mode with AP, 15 about as many as the merge can use (``fusion.panoptic_only=true``).
"""

import time
from collections.abc import Callable
from functools import partial

import torch

from benchmark import networks
from benchmark.case import Case, extra_mib
from benchmark.networks import build_network, make_batch, read_settings
from refine.detector.losses import compute_loss_weights, total_loss
from refine.detector.refine_net import RefineNet
from refine.types import Batch

BASE, CONTROL = "model.ibpp.num_iterations=0", "model.ibpp.direction=none"
TOY, R50 = ("experiment=toy_ibpp3",), ("experiment=r50_ibpp3",)
R50_BASELINE = ("experiment=r50_panoptic_fpn",)


def build() -> list[Case]:
    """IBPP (T = 3) against T = 0 and its control, and R50 also against the plain baseline."""
    torch.set_num_threads(1)
    toy, large = (128, 192), (480, 640)
    return [
        _case("toy, step", TOY, (*TOY, BASE), toy, None, goal=0.6),
        _case("toy, 15 detections", TOY, (*TOY, BASE), toy, 15),
        _case("toy to control, step", TOY, (*TOY, CONTROL), toy, None),
        _case("toy to control, 15 detections", TOY, (*TOY, CONTROL), toy, 15),
        _case("r50 to control, step", R50, (*R50, CONTROL), large, None),
        _case("r50 to control, 15 detections", R50, (*R50, CONTROL), large, 15),
        _case("r50, step", R50, (*R50, BASE), large, None, goal=0.62),
        _case("r50, 100 detections", R50, (*R50, BASE), large, 100, goal=0.6),
        _case("r50, 15 detections", R50, (*R50, BASE), large, 15, goal=0.8),
        _case("r50 to baseline, step", R50, R50_BASELINE, large, None),
        _case("r50 to baseline, 15 detections", R50, R50_BASELINE, large, 15),
    ]


def _case(
    name: str,
    ours: tuple[str, ...],
    peer: tuple[str, ...],
    size: tuple[int, int],
    detections: int | None,
    *,
    goal: float | None = None,
) -> Case:
    memory = [extra_mib(prepare, overrides, size, detections) for overrides in (ours, peer)]
    print("model, {}: {:.0f} MiB extra, peer {:.0f}".format(name, *memory))
    programs = [prepare(overrides, size, detections) for overrides in (ours, peer)]
    return Case(
        name=f"model, {name}",
        ours=programs[0],
        peer=programs[1],
        goal=goal,
        rounds=7,
        clock=time.process_time,
    )


def prepare(
    overrides: tuple[str, ...], size: tuple[int, int], detections: int | None
) -> Callable[[], None]:
    """A training step of a network, or its inference with a number of detections."""
    counts = networks.TOY if overrides[0] == TOY[0] else networks.COCO
    network = build_network(read_settings(overrides, detections=detections or 100), counts)
    run = _train if detections is None else _infer
    return partial(run, network, make_batch(size, counts=counts))


def _train(network: RefineNet, batch: Batch) -> None:
    losses = network.train().loss(batch, generator=torch.Generator().manual_seed(0))
    torch.autograd.backward(total_loss(losses, compute_loss_weights(network.options)))
    network.zero_grad()


@torch.inference_mode()
def _infer(network: RefineNet, batch: Batch) -> None:
    network.eval().predict(batch)
