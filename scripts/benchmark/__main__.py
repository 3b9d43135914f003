"""Time our code against the usual way, stage by stage, both sides in one process.

Answers are compared before anything is timed. The exit code is 1 if the two sides answer
differently, or if ours is below 0.8 of its goal (the slack is for busy machines).

    python scripts/benchmark --list
    python scripts/benchmark pq
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

# one thread each: the stages compare programs, not thread counts. Before numpy is imported
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmark.case import MIN_ROUNDS, Case, measure  # noqa: E402 - after the settings

SLACK = 0.8  # of a goal: below it the benchmark fails, on a busy machine too

# A stage is a module benchmark/NAME.py with build() -> list[Case]. Add it here.
STAGES = {
    "pq": "panoptic quality of maps in memory",
    "loading": "a training sample from its files",
    "roi_align": "RoI features from a feature map, and back",
    "roi_flatten": "masks on a canvas of categories, and back",
    "unknown_erasing": "regions of the semantic map and their scores",
    "paste": "masks from their boxes to the image",
    "semantic_argmax": "best category of every pixel",
    "pair_overlaps": "pixels that every two masks share",
    "soe": "order of overlapping instances, by the occlusion network",
    "postprocessing": "from the network's output to the panoptic map",
    "fuse": "result files of instances and stuff to panoptic ones",
    "large_photo": "all but the network for 24 megapixels, file to files (minutes)",
    "model": "IBPP against the same network without it (minutes)",
}


def main() -> int:
    """Run the chosen stages; 0 if every case reaches its goal."""
    arguments = _parse_arguments()
    if arguments.list:
        for name, description in STAGES.items():
            print(f"{name:<16} {description}")
        return 0
    print(f"{'case':<36} {'ours ms':>9} {'peer ms':>9} {'ratio':>7} {'goal':>6}")
    verdicts = [
        _run(case, arguments.rounds)
        for stage in arguments.stages or STAGES
        for case in importlib.import_module(f"benchmark.{stage}").build()
    ]
    return 0 if all(verdicts) else 1


def _parse_arguments() -> argparse.Namespace:
    description, _, _ = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(prog="benchmark", description=description)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="default: all of --list")
    parser.add_argument("--list", action="store_true", help="name the stages and stop")
    parser.add_argument("--rounds", type=int, default=11, help=f"at least {MIN_ROUNDS}")
    arguments = parser.parse_args()
    for stage in set(arguments.stages) - STAGES.keys():
        parser.error(f"no stage {stage!r}; there are: {', '.join(STAGES)}")
    return arguments


def _run(case: Case, rounds: int) -> bool:
    try:
        case.check()
    except AssertionError as error:
        print(f"{case.name:<36} answers differ: {error}")
        return False
    ours_ms, peer_ms = measure(case, rounds)
    ratio = peer_ms / ours_ms
    goal, verdict = "", ""
    if case.goal is not None:
        goal, verdict = f"{case.goal:5.2f}x", "" if ratio >= case.goal else "  MISSED"
    print(f"{case.name:<36} {ours_ms:9.3f} {peer_ms:9.3f} {ratio:6.2f}x {goal:>6}{verdict}")
    return case.goal is None or ratio >= SLACK * case.goal


if __name__ == "__main__":
    sys.exit(main())
