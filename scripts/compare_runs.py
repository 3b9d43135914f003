"""Tell two finished runs on the same images apart: differences with paired 95 % intervals.

    python scripts/compare_runs.py runs/before runs/after

A and B are folders that python -m refine.evaluate or refine.train left. The intervals come from a
bootstrap over images; they say nothing about what another training seed would give.
"""

import argparse
import sys
from pathlib import Path

from refine.coco_format.annotations import load_panoptic_json
from refine.errors import run_script
from refine.report.bootstrap import NUM_RESAMPLES, compare, compute_intervals, resample
from refine.report.finished_run import read_run
from refine.report.image_changes import find_changes, split_changes

NAMES = {"pq": "PQ", "pq_things": "PQ things", "pq_stuff": "PQ stuff"}


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return int(text)


def describe(args: argparse.Namespace) -> str:
    """The comparison as text, values times 100."""
    runs = [read_run(folder) for folder in (args.first, args.second)]
    options = {"num_resamples": args.resamples, "seed": args.seed}
    both = compare(*runs, **options)
    singles = [compute_intervals([resample(run, **options)]) for run in runs]
    lines = [
        f"A {args.first}, B {args.second}: {len(runs[0].image_ids)} images; "
        f"95 % intervals of {args.resamples} resamples\n",
        f"{'x 100':<10} {'A':>22} {'B':>22} {'B - A':>24}",
    ]
    for key, name in NAMES.items():
        cells = " ".join(f"{single[key].format(sign=''):>22}" for single in singles)
        verdict = "not distinguishable" if both[key].includes_zero else "distinguishable"
        lines.append(f"{name:<10} {cells} {both[key].format():>24}  {verdict}")
    files: dict[int, str] = {}
    if args.annotations is not None:
        truth = load_panoptic_json(args.annotations)
        files = dict(zip(truth.image_ids.tolist(), map(str, truth.image_names), strict=True))
    parts = split_changes(find_changes(*runs), args.images)
    for title, changes in zip(("worst changes", "best changes"), parts, strict=True):
        what = "(mean PQ of the categories in the image, x 100)" if len(changes) else "none"
        lines.append(f"\n{title}: {what}")
        for image_id, before, after, change in (100 * changes).itertuples():
            scores = f"{before:5.1f} -> {after:5.1f}  {change:+6.1f}"
            lines.append(f"  {image_id:>12}  {scores}  {files.get(image_id, '')}".rstrip())
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("first", metavar="A", type=Path, help="folder of the run before")
    parser.add_argument("second", metavar="B", type=Path, help="folder of the run after")
    parser.add_argument("--resamples", type=_positive, default=NUM_RESAMPLES)
    parser.add_argument("--seed", type=int, default=0, help="seed of the resamples")
    parser.add_argument("--images", type=_positive, default=5, help="worst and best images to list")
    parser.add_argument("--annotations", type=Path, help="panoptic JSON, to name the image files")
    args = parser.parse_args(argv)
    return run_script(lambda: print(describe(args)))


if __name__ == "__main__":
    sys.exit(main())
