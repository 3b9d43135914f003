"""Choose the best setting of a sweep on one half of the images and report it on the other.

    python -m refine.evaluate -m sweep=unknown_erasing predictions=cache
    python scripts/compare_sweep.py runs/sweep_unknown_erasing --reference runs/plain --key pq_stuff

A setting chosen and reported on the same images looks better than it is: the best of twenty is best
partly by luck. Images at even places of the order of their ids choose, the others report.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from refine.atomic import write_text
from refine.errors import RefineError, run_script
from refine.report.bootstrap import NUM_RESAMPLES, compare, compute_pq
from refine.report.finished_run import FinishedRun, check_comparable, read_run


def read_sweep(folder: Path) -> dict[str, FinishedRun]:
    """The finished runs of a sweep by the parts of their names that not all have, in order.

    Raises:
        RefineError: There are none.
    """

    def order(path: Path) -> list[tuple[bool, float, str]]:
        parts = re.split(r"(\d+(?:\.\d+)?)", path.name)  # text and numbers by turns
        return [(k % 2 == 1, float(p) if k % 2 else 0.0, p) for k, p in enumerate(parts)]

    folders = sorted((path.parent for path in folder.glob("*/DONE")), key=order)
    if not folders:
        raise RefineError(f"{folder}: no finished run in it; name the folder of a sweep")
    parts = [re.sub(r"\+[0-9a-f]{8}$", "", path.name).split("+") for path in folders]
    shared = set.intersection(*map(set, parts)) if len(folders) > 1 else set()
    names = ["+".join(p for p in of_run if p not in shared) for of_run in parts]
    if len(set(names)) < len(names):  # equal but for their hashes
        names = [path.name for path in folders]
    return {name: read_run(path) for name, path in zip(names, folders, strict=True)}


def score_halves(
    runs: Sequence[FinishedRun], reference: FinishedRun, key: str
) -> tuple[np.ndarray, np.ndarray]:
    """``[R, 2]`` scores on the choosing and the reporting half; ``[N]`` bool, which images choose.

    Raises:
        RefineError: The runs have other images or categories than the reference.
    """
    for run in runs:
        check_comparable(reference, run)
    chooses = np.arange(len(reference.image_ids)) % 2 == 0
    weights = np.stack([chooses, ~chooses]).astype(float)
    return np.array([compute_pq(run, weights)[key] for run in runs]), chooses


def describe(args: argparse.Namespace) -> str:
    """The comparison as Markdown."""
    runs, reference = read_sweep(args.sweep), read_run(args.reference)
    scores, chooses = score_halves([*runs.values()], reference, args.key)
    best = [*runs][int(np.argmax(scores[:, 0]))]
    rows = []
    for (name, run), (choosing, reporting) in zip(runs.items(), 100 * scores, strict=True):
        cells = {"setting": f"**{name}**" if name == best else name}
        cells |= {"choosing half": f"{choosing:.2f}", "reporting half": f"{reporting:.2f}"}
        if any(r.metrics.get("erased_segments") for r in runs.values()):
            erased, wrong = (int(run.metrics[key]) for key in ("erased_segments", "erased_wrong"))
            share = f" ({100 * wrong / erased:.0f} %)" if erased else ""
            cells["erased, wrong"] = f"{erased}, {wrong}{share}"
        rows.append(cells)
    sides = ("left", *["right"] * (len(rows[0]) - 1))
    halves = (run.take_images(~chooses) for run in (reference, runs[best]))
    differences = compare(*halves, num_resamples=args.resamples, seed=args.seed)
    lines = [
        f"- {key}: {interval.format(decimals=2)}, "
        f"{'includes' if interval.includes_zero else 'excludes'} 0"
        for key, interval in differences.items()
    ]
    return (
        f"{args.key} x 100; chosen on {chooses.sum()} images, reported on {(~chooses).sum()} others"
        f"\n\n{pd.DataFrame(rows).to_markdown(index=False, colalign=sides, disable_numparse=True)}"
        f"\n\nchosen minus {args.reference.name}, on the reporting half:\n\n" + "\n".join(lines)
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sweep", type=Path, help="folder with one run per setting")
    parser.add_argument("--reference", type=Path, required=True, help="run to compare with")
    parser.add_argument(
        "--key", choices=("pq", "pq_things", "pq_stuff"), default="pq", help="what is chosen by"
    )
    parser.add_argument("--resamples", type=int, default=NUM_RESAMPLES)
    parser.add_argument("--seed", type=int, default=0, help="seed of the resamples")
    parser.add_argument("--out", type=Path, help="file; default: standard output")
    args = parser.parse_args(argv)
    write = print if args.out is None else lambda text: write_text(args.out, f"{text}\n")
    return run_script(lambda: write(describe(args)))


if __name__ == "__main__":
    sys.exit(main())
