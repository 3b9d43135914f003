"""Time a training step and the inference of two networks, alternating in one process.

    python scripts/benchmark_model.py                            # toy_ibpp3 against its own T = 0
    python scripts/benchmark_model.py --experiment r50_ibpp3 --size 480 640 --detections 15

The first network is the experiment, the second the same with ``model.ibpp.num_iterations=0`` on
the same box cascade. Weights and pixels are random, so score limits are switched off and every
image has exactly ``--detections`` detections: 100 is the mode with AP, 15 about what the merge can
use (``fusion.panoptic_only=true``).
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmark_stages.networks import build_network, make_batch
from refine.detector.losses import compute_loss_weights, total_loss
from refine.detector.refine_net import RefineNet
from refine.types import Batch

BASE = ("model.ibpp.num_iterations=0",)


def make_step(network: RefineNet, batch: Batch) -> Callable[[], None]:
    """Forward and backward of a training step."""
    weights = compute_loss_weights(network.options)

    def step() -> None:
        losses = network.train().loss(batch, generator=torch.Generator().manual_seed(0))
        torch.autograd.backward(total_loss(losses, weights))
        network.zero_grad()

    return step


def make_inference(network: RefineNet, batch: Batch) -> Callable[[], None]:
    """The network's part of an inference."""

    @torch.inference_mode()
    def infer() -> None:
        network.eval().predict(batch)

    return infer


def measure_memory(args: argparse.Namespace, overrides: tuple[str, ...], kind: str) -> float:
    """MiB that one run adds to the peak of a process of its own."""
    command = [sys.executable, __file__, "--experiment", args.experiment, "--memory-of", kind]
    command += ["--size", *map(str, args.size), "--detections", str(args.detections), "--"]
    output = subprocess.run([*command, *overrides], check=True, capture_output=True, text=True)
    return float(output.stdout.splitlines()[-1])


def _read_memory(key: str) -> int:
    """KiB of this process (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def main() -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--experiment", default="toy_ibpp3")
    parser.add_argument("--size", nargs=2, type=int, default=(128, 192), help="multiples of 32")
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory-of", choices=("step", "inference"), help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args()
    batch, makers = make_batch(tuple(args.size)), {"step": make_step, "inference": make_inference}
    if args.memory_of:
        network = build_network(args.experiment, tuple(args.overrides), detections=args.detections)
        run = makers[args.memory_of](network, batch)
        run()  # what is allocated once and for all
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = _read_memory("VmRSS")
        run()
        print((_read_memory("VmHWM") - before) / 1024)
        return 0
    networks = [
        build_network(args.experiment, overrides, detections=args.detections)
        for overrides in ((), BASE)
    ]
    print(f"{'':<10} {'ms':>8} {'T=0 ms':>8} {'speed':>7} {'MiB':>7} {'T=0 MiB':>8}")
    for kind, make in makers.items():
        runs = [make(network, batch) for network in networks]
        times: tuple[list[float], list[float]] = ([], [])
        for k in range(args.rounds + 1):
            for side, run in zip(times, runs, strict=True):
                start = time.perf_counter()
                run()
                if k:  # the first round warms up
                    side.append(1000 * (time.perf_counter() - start))
        ours, base = map(statistics.median, times)
        peaks = [measure_memory(args, overrides, kind) for overrides in ((), BASE)]
        print(f"{kind:<10} {ours:8.1f} {base:8.1f} {base / ours:6.2f}x", end="")
        print(" {:7.0f} {:8.0f}".format(*peaks))
    return 0


if __name__ == "__main__":
    sys.exit(main())
