"""Choose the best setting of a sweep on one half of the images and report it on the other.

    python -m refine.evaluate -m sweep=unknown_erasing predictions=cache
    python scripts/compare_sweep.py runs/sweep_unknown_erasing --reference runs/plain --key pq_stuff

Prints every setting on both halves, and the difference of the chosen one to the reference on the
half that did not choose, with its paired 95 % interval.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from refine.atomic import write_text
from refine.errors import RefineError, run_script
from refine.report.bootstrap import NUM_RESAMPLES
from refine.report.halves import choose_on_half
from refine.report.runs import Run, read_run

KEYS = ("pq", "pq_things", "pq_stuff")


def read_sweep(folder: Path) -> list[Run]:
    """The finished runs of a sweep, by name, numbers in their order.

    Raises:
        RefineError: There are none.
    """
    folders = sorted((path.parent for path in folder.glob("*/DONE")), key=_natural_order)
    if not folders:
        raise RefineError(f"{folder}: no finished run in it; name the folder of a sweep")
    return [read_run(path) for path in folders]


def _natural_order(folder: Path) -> list[tuple[bool, float, str]]:
    parts = re.split(r"(\d+(?:\.\d+)?)", folder.name)  # text and numbers by turns
    return [(k % 2 == 1, float(part) if k % 2 else 0.0, part) for k, part in enumerate(parts)]


def name_settings(runs: Sequence[Run]) -> dict[Path, str]:
    """What tells the runs of a sweep apart: of their overrides those that not all have."""
    overrides = {run.folder: run.folder.name.split(",") for run in runs}
    shared = set.intersection(*map(set, overrides.values())) if len(runs) > 1 else set()
    return {
        folder: ",".join(o for o in of_run if o not in shared)
        for folder, of_run in overrides.items()
    }


def describe(args: argparse.Namespace) -> list[str]:
    """The comparison as Markdown."""
    runs, reference = read_sweep(args.sweep), read_run(args.reference)
    choice = choose_on_half(
        runs, reference, key=args.key, num_resamples=args.resamples, seed=args.seed
    )
    erased = any(run.metrics.get("erased_segments") for run in runs)
    names = name_settings(runs)
    lines = [
        f"{args.key} x 100; chosen on {(len(reference.image_ids) + 1) // 2} images, reported on "
        f"{len(reference.image_ids) // 2} others",
        "",
        "| setting | choosing half | reporting half |" + (" erased, wrong |" if erased else ""),
        "|---|---:|---:|" + ("---:|" if erased else ""),
    ]
    for run, choosing, reporting in zip(runs, choice.choosing, choice.reporting, strict=True):
        name = names[run.folder]
        cells = [
            f"**{name}**" if run is choice.chosen else name,
            f"{100 * choosing:.2f}",
            f"{100 * reporting:.2f}",
        ]
        if erased:
            counts = [int(run.metrics[key]) for key in ("erased_segments", "erased_wrong")]
            share = f" ({100 * counts[1] / counts[0]:.0f} %)" if counts[0] else ""
            cells.append(f"{counts[0]}, {counts[1]}{share}")
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"chosen minus {args.reference.name}, on the reporting half:", ""]
    for key, interval in choice.differences.items():
        value, low, high = (100 * v for v in (interval.value, interval.low, interval.high))
        verdict = "includes 0" if interval.includes_zero else "excludes 0"
        lines.append(f"- {key}: {value:+.2f} [{low:+.2f}, {high:+.2f}], {verdict}")
    return lines


def write(args: argparse.Namespace) -> None:
    """Print the comparison, or write it to a file."""
    text = "\n".join(describe(args))
    if args.out is None:
        print(text)
    else:
        write_text(args.out, f"{text}\n")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("sweep", type=Path, help="folder with a run a setting")
    parser.add_argument("--reference", type=Path, required=True, help="run to compare with")
    parser.add_argument("--key", choices=KEYS, default="pq", help="what is chosen by")
    parser.add_argument("--resamples", type=int, default=NUM_RESAMPLES)
    parser.add_argument("--seed", type=int, default=0, help="of the resamples")
    parser.add_argument("--out", type=Path, help="file; default: standard output")
    return run_script(lambda: write(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
