"""The paper's tables 1 to 6 with your own runs beside the printed values.

    python scripts/ablation_table.py runs
    python scripts/ablation_table.py runs/ablation --tables 3 5 --format latex --out tables.tex
    python scripts/ablation_table.py --wandb ENTITY/PROJECT

RUNS are folders of runs, or folders in which runs lie. Which row a run belongs to is decided from
its config.yaml. Several seeds of one configuration become a mean. Folders that cannot be read are
named on standard error.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from refine.atomic import write_text
from refine.errors import RefineError
from refine.report.ablation import build_tables, choose_dataset
from refine.report.bootstrap import NUM_RESAMPLES
from refine.report.entries import Entry, from_wandb, read_entries
from refine.report.table_text import FORMATS

NUMBERS = (1, 2, 3, 4, 5, 6)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUNS")
    parser.add_argument("--wandb", metavar="ENTITY/PROJECT", help="read runs from there instead")
    parser.add_argument("--tables", nargs="+", type=int, choices=NUMBERS, default=NUMBERS)
    parser.add_argument("--format", choices=FORMATS, default="markdown")
    parser.add_argument("--dataset", help="part of its name; default: that of most finished runs")
    parser.add_argument(
        "--resamples", type=int, default=NUM_RESAMPLES, help="of the bootstrap; 0: no intervals"
    )
    parser.add_argument("--out", type=Path, help="file; default: standard output")
    args = parser.parse_args(argv)
    if bool(args.runs) == bool(args.wandb):
        parser.error("give either folders of runs or --wandb ENTITY/PROJECT")
    return args


def collect(args: argparse.Namespace) -> tuple[list[Entry], list[str]]:
    """The runs, and a line for each that cannot be read."""
    if args.wandb is None:
        return read_entries(args.runs)
    return from_wandb(fetch_wandb_runs(args.wandb), args.wandb)


def fetch_wandb_runs(project: str) -> Iterable[Any]:
    """All runs of a project.

    Raises:
        RefineError: wandb is not installed, or does not answer.
    """
    try:
        import wandb
    except ImportError:
        raise RefineError("--wandb needs the wandb package: pip install wandb") from None
    try:
        return list(wandb.Api().runs(project))
    except (wandb.Error, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RefineError(f"{project}: Weights & Biases does not answer: {reason}") from None


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parse_args(argv)
    try:
        entries, problems = collect(args)
        for line in problems:
            print(f"left out: {line}", file=sys.stderr)
        dataset = choose_dataset(entries, args.dataset)
        tables = build_tables(entries, dataset, numbers=args.tables, num_resamples=args.resamples)
    except RefineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = FORMATS[args.format](tables)
    if args.out is None:
        print(text, end="")
    else:
        write_text(args.out, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
