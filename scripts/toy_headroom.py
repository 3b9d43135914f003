"""Measure what an occlusion head can gain on toy scenes, before one is trained.

    python scripts/toy_headroom.py

Two questions: can the order of two overlapping things be seen (and not just computed from their
masks), and what is the right order worth to the panoptic map? Both with generated scenes and true
masks, without a detector. Exit code 1: an answer misses its goal.
"""

import argparse
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch

from headroom.merging import prepare, things_quality
from headroom.network import Training, order_pairs, train_network
from headroom.pair_crops import PairCrops, cut_out, order_by_categories
from refine.options import ToyOptions
from refine.toy.objects import ToyScene
from refine.toy.scene import generate_scene

SEEN_GOAL, BLIND_GOAL, WORTH_GOAL = 0.90, 0.65, 0.05
MIN_PAIRS = 400
DRAWS = 5  # of the scores


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    description, _, _ = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--num-train", type=int, default=1600, help="scenes to train on")
    parser.add_argument("--num-val", type=int, default=400, help="scenes to measure on")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of scenes, networks and scores")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    for name in ("num_train", "num_val", "epochs", "threads"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: at least 1")
    return args


def generate(args: argparse.Namespace, split: str, count: int) -> Iterator[ToyScene]:
    """The first scenes of a split."""
    options = ToyOptions(seed=args.seed)
    return (generate_scene(options, split, index) for index in range(count))


def measure_orders(args: argparse.Namespace, train: PairCrops, val: PairCrops) -> bool:
    """Print how often each way to order pairs is right; whether the goals are kept."""
    print(f"{len(val)} validation pairs ordered right, %, +- 95 %; {len(train)} training pairs")
    seen = _network_share("RGB crop + both masks", args, train, val, use_image=True)
    blind = _network_share("both masks alone", args, train, val, use_image=False)
    smaller = _print_share("smaller on top", val.areas[:, 0] < val.areas[:, 1])
    _print_share("usual order of the categories", order_by_categories(train, val))
    if len(val) < MIN_PAIRS:
        print(f"too few pairs to judge: {MIN_PAIRS} are asked for")
    return seen >= SEEN_GOAL and max(blind, smaller) <= BLIND_GOAL and len(val) >= MIN_PAIRS


def _network_share(
    name: str, args: argparse.Namespace, train: PairCrops, val: PairCrops, *, use_image: bool
) -> float:
    start = time.perf_counter()
    training = Training(num_epochs=args.epochs, seed=args.seed, use_image=use_image)
    network = train_network(train, training)
    is_right = order_pairs(network, val, use_image=use_image).numpy()
    return _print_share(name, is_right, f"  (network, {time.perf_counter() - start:.0f} s)")


def _print_share(name: str, is_right: np.ndarray, note: str = "") -> float:
    share = float(is_right.mean())
    spread = 1.96 * np.sqrt(share * (1 - share) / len(is_right))
    print(f"  {name:<32}{100 * share:6.1f} +- {100 * spread:.1f}{note}", flush=True)
    return share


def measure_merging(args: argparse.Namespace) -> bool:
    """Print what each order of true masks gives; whether the goal is kept."""
    cases = [prepare(scene) for scene in generate(args, "val", args.num_val)]
    rows = [("true order", "oracle", "random"), ("smaller on top", "area", "random"),
            ("score: visible share and noise", "score", "visible"),
            ("score: random", "score", "random")]  # fmt: skip
    print(
        f"\nPQ of the things, %: true masks of {len(cases)} scenes merged, {DRAWS} draws of scores"
    )
    means = []
    for name, relation, scoring in rows:
        draws = [
            things_quality(cases, relation, scoring=scoring, seed=args.seed + k)
            for k in range(DRAWS)
        ]
        means.append(float(np.mean(draws)))
        behind = f"  {100 * (means[-1] - means[0]):+.1f}" if len(means) > 1 else ""
        print(
            f"  {name:<32}{100 * means[-1]:6.1f} +- {100 * np.std(draws):.1f}{behind}", flush=True
        )
    return means[0] - means[-1] >= WORTH_GOAL


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    train = cut_out(generate(args, "train", args.num_train))
    val = cut_out(generate(args, "val", args.num_val))
    is_seen = measure_orders(args, train, val)
    is_worth = measure_merging(args)
    print(f"\norder to be seen: {is_seen}; worth {100 * WORTH_GOAL:.0f} points: {is_worth}")
    return 0 if is_seen and is_worth else 1


if __name__ == "__main__":
    sys.exit(main())
