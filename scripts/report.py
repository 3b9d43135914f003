"""One HTML page of an ablation: tables, curves, categories, images, pair decisions.

    python scripts/report.py runs -o report.html
    python scripts/report.py runs -o report.html --predictions CACHE --baseline-predictions CACHE

RUNS are folders of runs, or folders in which runs lie. The page needs no network. Images come from
the runs' pictures/ folders (draw=N), or, the worst and best of all, from prediction caches: those
that an evaluation names in its config.yaml are found by themselves.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from refine.atomic import write_text
from refine.errors import run_script
from refine.options import FusionOptions
from refine.report.ablation import choose_dataset
from refine.report.bootstrap import NUM_RESAMPLES
from refine.report.entries import Entry, read_entries
from refine.report.html.report import ReportOptions, build_report
from refine.report.images import ImageSource

if TYPE_CHECKING:
    from refine.report.pair_decisions import PairDecisions


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS")
    parser.add_argument("-o", "--out", type=Path, default=Path("report.html"))
    parser.add_argument("--dataset", help="part of its name; default: that of most finished runs")
    parser.add_argument("--baseline", type=Path, help="run; default: the first row of table 3")
    parser.add_argument("--compared", type=Path, help="run; default: the last row of table 3")
    parser.add_argument("--images", type=int, default=6, help="worst and best images, each")
    parser.add_argument("--predictions", type=Path, help="cache of the compared run")
    parser.add_argument("--baseline-predictions", type=Path, help="cache of the baseline")
    parser.add_argument("--data-root", type=Path, help="default: the caches' own")
    parser.add_argument("--resamples", type=int, default=NUM_RESAMPLES, help="0: no intervals")
    return parser.parse_args(argv)


def count_pairs(args: argparse.Namespace) -> "dict[str, PairDecisions]":
    """Of every order that the cache of the compared run can give."""
    if args.predictions is None:
        return {}
    # these import torch, which takes longer than a report without caches
    from refine.report.cached_images import CachedImages
    from refine.report.pair_decisions import count_decisions, list_rules

    images = CachedImages(args.predictions, data_root=args.data_root)
    return count_decisions(images, list_rules(images.reader.header), fusion=FusionOptions())


def report(args: argparse.Namespace) -> list[str]:
    """Write the page; lines that say what is in it."""
    entries, problems = read_entries(args.runs)
    dataset = choose_dataset(entries, args.dataset)

    def open_both(baseline: Entry, compared: Entry) -> ImageSource | None:
        before = args.baseline_predictions or baseline.cache
        after = args.predictions or compared.cache
        if before is None or after is None:
            return None
        from refine.report.cached_images import open_pictures

        return open_pictures(
            {"baseline": baseline, "compared": compared},
            {"baseline": before, "compared": after},
            data_root=args.data_root,
        )

    page = build_report(
        entries,
        problems,
        dataset,
        options=ReportOptions(
            baseline=args.baseline,
            compared=args.compared,
            num_images=args.images,
            num_resamples=args.resamples,
            pair_decisions=count_pairs(args),
        ),
        open_pictures=open_both,
    )
    write_text(args.out, page)
    size = f"{len(page.encode()) / 1e6:.1f} MB"
    return [*(f"left out: {line}" for line in problems), f"{args.out}: {len(entries)} runs, {size}"]


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_script(lambda: print("\n".join(report(parse_args(argv)))))


if __name__ == "__main__":
    sys.exit(main())
