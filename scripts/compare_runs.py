"""Tell two finished runs on the same images apart: differences with paired 95 % intervals.

    python scripts/compare_runs.py runs/before runs/after

A and B are folders that python -m refine.evaluate or refine.train left. The intervals come from a
bootstrap over images; they say nothing of what another training seed would give.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from refine.coco_format.annotations import load_panoptic_json
from refine.errors import run_script
from refine.report.bootstrap import NUM_RESAMPLES, Interval, bootstrap_difference, bootstrap_run
from refine.report.images import ImageChange, find_largest_changes
from refine.report.runs import Run, read_run

NAMES = {"pq": "PQ", "pq_things": "PQ things", "pq_stuff": "PQ stuff"}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    description, _, _ = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("first", metavar="A", type=Path, help="folder of the run before")
    parser.add_argument("second", metavar="B", type=Path, help="folder of the run after")
    parser.add_argument("--resamples", type=_positive, default=NUM_RESAMPLES)
    parser.add_argument("--seed", type=int, default=0, help="of the resamples")
    parser.add_argument("--images", type=_positive, default=5, help="worst and best images to list")
    parser.add_argument(
        "--annotations", type=Path, help="panoptic JSON of the images, to name their files"
    )
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def describe_differences(first: Run, second: Run, *, num_resamples: int, seed: int) -> list[str]:
    """Lines of text: both runs and their difference, times 100."""
    singles = [bootstrap_run(r, num_resamples=num_resamples, seed=seed) for r in (first, second)]
    both = bootstrap_difference(first, second, num_resamples=num_resamples, seed=seed)
    lines = [f"{'x 100':<10} {'A':>22} {'B':>22} {'B - A':>24}"]
    for key, name in NAMES.items():
        cells = [f"{_interval(single[key], ''):>22}" for single in singles]
        verdict = "not distinguishable" if both[key].includes_zero else "distinguishable"
        lines.append(f"{name:<10} {' '.join(cells)} {_interval(both[key], '+'):>24}  {verdict}")
    return lines


def _interval(interval: Interval, sign: str) -> str:
    value, low, high = (100 * v for v in (interval.value, interval.low, interval.high))
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def describe_images(
    title: str, changes: Sequence[ImageChange], file_names: Mapping[int, str]
) -> list[str]:
    """Lines of text: images with their scores, times 100."""
    lines = [f"{title} (mean PQ of the categories in the image, x 100)"]
    for c in changes:
        scores = f"{100 * c.before:5.1f} -> {100 * c.after:5.1f}  {100 * c.change:+6.1f}"
        lines.append(f"  {c.image_id:>12}  {scores}  {file_names.get(c.image_id, '')}".rstrip())
    return lines if changes else [f"{title}: none"]


def compare(args: argparse.Namespace) -> list[str]:
    """The comparison as lines of text."""
    first, second = read_run(args.first), read_run(args.second)
    file_names: dict[int, str] = {}
    if args.annotations is not None:
        truth = load_panoptic_json(args.annotations)
        names = (str(name) for name in truth.image_names)
        file_names = dict(zip(truth.image_ids.tolist(), names, strict=True))
    differences = describe_differences(first, second, num_resamples=args.resamples, seed=args.seed)
    losses, gains = find_largest_changes(first, second, number=args.images)
    return [
        f"A {args.first}, B {args.second}: {len(first.image_ids)} images; "
        f"95 % intervals of {args.resamples} resamples",
        "",
        *differences,
        "",
        *describe_images("worst changes", losses, file_names),
        "",
        *describe_images("best changes", gains, file_names),
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_script(lambda: print("\n".join(compare(parse_args(argv)))))


if __name__ == "__main__":
    sys.exit(main())
