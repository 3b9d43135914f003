"""CPU seconds of every stage of a network, in a training step and in inference.

    python scripts/benchmark/stages.py [--size H W] [--fast] [--experiments E ...] [--with K=V ...]

One thread, one random image, random weights; every detection is written to the canvas. Seconds are
the process's own, so that other work on the machine matters little; medians of the rounds.
"""

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmark.networks import build_network, make_batch, read_settings
from refine.detector import refine_net
from refine.detector.losses import compute_loss_weights, total_loss
from refine.detector.refine_net import RefineNet


class Clock:
    """Own seconds of every stage: without those of the stages that it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._begins = time.process_time()
        self._running = ["rest"]

    def time(self, owner: Any, method: str, stage: str) -> None:
        """Count the calls of a method, or of a function of a module, as a stage."""
        run = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self.switch(stage)
            try:
                return run(*args, **kwargs)
            finally:
                self.switch(None)

        setattr(owner, method, timed)

    def switch(self, stage: str | None) -> None:
        """A stage begins, or (None) the last one ends."""
        now = time.process_time()
        self.seconds[self._running[-1]] += now - self._begins
        self._begins = now
        if stage is None:
            self._running.pop()
        else:
            self._running.append(stage)


def watch(network: RefineNet) -> Clock:
    """A clock of the stages of a network."""
    clock = Clock()
    for part, stage in (
        (network.backbone, "backbone and pyramid"),
        (network.semantic_trunk, "semantic trunk"),
        (network.proposals, "RPN"),
        (network.ibpp.semantic_predictor, "semantic predictor"),
    ):
        clock.time(part, "forward", stage)
    for name, stage in (
        ("_propose", "NMS of proposals"),
        ("_pool", "RoIAlign of the pyramid"),
    ):
        clock.time(network, name, stage)
    for name in ("loss", "detect"):
        clock.time(network.box_cascade, name, "box heads, samples, NMS")
    for name, stage in (
        ("semantic_loss", "semantic losses"),
        ("roi_mask_targets", "mask targets"),
    ):
        clock.time(refine_net, name, stage)
    ibpp = network.ibpp
    for name, stage in (
        ("pool_feature", "RoIAlign of F_sem"),
        ("pool_semantics", "RoIAlign of P_sem"),
        ("predict_masks", "mask heads"),
        ("project_masks", "canvas"),
        ("refine_semantics", "refined semantic heads"),
    ):
        clock.time(ibpp, name, stage)
    return clock


def measure(
    overrides: Sequence[str], size: tuple[int, int], detections: int | None, *, fast: bool
) -> dict[str, float]:
    """Seconds of each stage of a training step (None), or of the inference of some detections."""
    settings = read_settings(overrides, detections=detections or 100)
    network, batch = build_network(settings), make_batch(size)
    weights = compute_loss_weights(settings.model)
    clock, rounds = watch(network), []
    is_training = detections is None
    for _ in range(4):
        clock.seconds.clear()
        clock.switch("rest")
        half = torch.autocast("cpu", torch.bfloat16, enabled=fast)
        with half, torch.set_grad_enabled(is_training):
            if is_training:
                losses = network.train().loss(batch, generator=torch.Generator().manual_seed(0))
            else:
                network.eval().predict(batch)
        if is_training:
            clock.switch("backward pass")
            torch.autograd.backward(total_loss(losses, weights))
            network.zero_grad()
            clock.switch(None)
        clock.switch(None)
        rounds.append(dict(clock.seconds))
    stages = {stage for of_round in rounds for stage in of_round}
    return {s: statistics.median(r.get(s, 0.0) for r in rounds[1:]) for s in stages}


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(prog="stages", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"))
    parser.add_argument("--experiments", nargs="+", default=["r50_panoptic_fpn", "r50_ibpp3"])
    parser.add_argument("--with", nargs="*", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--fast", action="store_true", help="bfloat16, as trainer=cpu_fast")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kinds = {"step": None, "15 detections": 15, "100 detections": 100}
    for name in arguments.experiments:
        overrides = [f"experiment={name}", *arguments.overrides]
        size, fast = tuple(arguments.size), arguments.fast
        columns = [measure(overrides, size, count, fast=fast) for count in kinds.values()]
        print(f"\n| {name} | {' | '.join(kinds)} |\n|---{'|---' * len(kinds)}|")
        costs = {s: [c.get(s, 0.0) for c in columns] for s in set().union(*columns)}
        costs["all"] = [sum(c.values()) for c in columns]
        for stage, values in sorted(costs.items(), key=lambda item: sum(item[1])):
            print(f"| {stage} | {' | '.join(f'{v:.2f}' for v in values)} |", flush=True)


if __name__ == "__main__":
    main()
