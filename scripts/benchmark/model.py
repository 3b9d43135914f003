"""Stage ``model``: a training step and the inference of networks, with and without IBPP.

Ours is an experiment; the peer is the same with ``model.ibpp.num_iterations=0`` on the same box
cascade, its control ``model.ibpp.direction=none``, or the baseline. Weights and pixels are random,
so score limits are switched off and every image has exactly the stated number of detections: 100 is
the mode with AP, 15 about as many as the merge can use (``fusion.panoptic_only=true``).
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmark.case import Case, extra_mib
from benchmark.scenes import NUM_CATEGORIES, NUM_THINGS
from refine.config import compose
from refine.detector.losses import compute_loss_weights, total_loss
from refine.detector.refine_net import RefineNet
from refine.ops.outlines import encode_mask
from refine.types import Batch, MaskCrop, Sample, TrainingTarget

BASE, CONTROL = "model.ibpp.num_iterations=0", "model.ibpp.direction=none"
TOY, R50 = ("experiment=toy_ibpp3",), ("experiment=r50_ibpp3",)
R50_BASELINE = ("experiment=r50_panoptic_fpn",)


def build() -> list[Case]:
    """IBPP (T = 3) against T = 0 and its control, and R50 also against the plain baseline."""
    torch.set_num_threads(1)
    toy, large = (128, 192), (480, 640)
    return [
        _case("toy, step", TOY, (*TOY, BASE), toy, None),
        _case("toy, 15 detections", TOY, (*TOY, BASE), toy, 15),
        _case("toy to control, step", TOY, (*TOY, CONTROL), toy, None),
        _case("toy to control, 15 detections", TOY, (*TOY, CONTROL), toy, 15),
        _case("r50 to control, step", R50, (*R50, CONTROL), large, None),
        _case("r50 to control, 15 detections", R50, (*R50, CONTROL), large, 15),
        _case("r50, step", R50, (*R50, BASE), large, None),
        _case("r50, 100 detections", R50, (*R50, BASE), large, 100, goal=0.6),
        _case("r50, 15 detections", R50, (*R50, BASE), large, 15, goal=0.75),
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
    return Case(name=f"model, {name}", ours=programs[0], peer=programs[1], goal=goal, rounds=3)


def prepare(
    overrides: tuple[str, ...], size: tuple[int, int], detections: int | None
) -> Callable[[], None]:
    """A training step of a network, or its inference with a number of detections."""
    limits = ("model.roi.score_thresh=0.0", f"model.roi.max_detections={detections or 100}")
    cfg = compose("train", [*overrides, *limits])
    torch.manual_seed(0)
    network = RefineNet(
        cfg.model,
        anchors=cfg.data.anchors,
        num_things=NUM_THINGS,
        num_categories=NUM_CATEGORIES,
    )
    run = _train if detections is None else _infer
    return partial(run, network, _make_batch(size))


def _train(network: RefineNet, batch: Batch) -> None:
    losses = network.train().loss(batch, generator=torch.Generator().manual_seed(0))
    torch.autograd.backward(total_loss(losses, compute_loss_weights(network.options)))
    network.zero_grad()


@torch.inference_mode()
def _infer(network: RefineNet, batch: Batch) -> None:
    network.eval().predict(batch)


def _make_batch(size: tuple[int, int], *, num_instances: int = 8) -> Batch:
    """One random image with square instances."""
    rng = np.random.default_rng(0)
    height, width = size
    side = height // 5
    corners = rng.integers(0, [width - side, height - side], (num_instances, 2))
    boxes = np.concatenate([corners, corners + side], axis=1).astype(np.float32)
    mask = np.ones((side, side), bool)
    target = TrainingTarget(
        semantic=torch.from_numpy(rng.integers(0, NUM_CATEGORIES, size).astype(np.uint8)),
        boxes=torch.from_numpy(boxes),
        labels=torch.from_numpy(rng.integers(0, NUM_THINGS, num_instances)),
        masks=tuple(encode_mask(MaskCrop(int(y), int(x), mask)) for x, y in corners),
    )
    image = torch.from_numpy(rng.integers(0, 256, (3, *size)).astype(np.uint8))
    sample = Sample(image=image, image_id=1, file_name="random", original_size=size, target=target)
    return Batch(images=image[None], image_sizes=(size,), samples=(sample,))
