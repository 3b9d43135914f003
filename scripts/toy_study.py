"""Train experiments on toy scenes with several seeds each, and print means with standard errors.

    python scripts/toy_study.py
    python scripts/toy_study.py --experiments toy_cascade toy_ibpp3 --seeds 0 1 -- schedule=short

Interrupted or failed, the same command goes on: finished runs are kept, others resume from their
last checkpoint. Exit code 1: a run failed. The table is also written to OUT/table.md.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refine.atomic import write_text
from refine.config.composition import compose
from refine.config.instantiate import to_options, to_plain
from refine.errors import RefineError
from refine.options import ToyOptions
from refine.report.study import Job, TrainingProcesses, build_jobs, quote, run_study
from refine.report.study_table import to_markdown
from refine.toy.dataset import ensure_toy_dataset

EXPERIMENTS = ("toy_ibpp0", "toy_cascade", "toy_ibpp1", "toy_ibpp2", "toy_ibpp3")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    description, _, _ = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--experiments", nargs="+", default=EXPERIMENTS, metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), metavar="SEED")
    parser.add_argument("--reference", default="toy_cascade", help="what differences are to")
    parser.add_argument("--out", type=Path, default=Path("runs/iterations"))
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--num-val", type=int, default=500, help="validation scenes")
    parser.add_argument("--data-root", type=Path, help="default: data/toy_valNUM")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="after --: for every training"
    )
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f"--jobs {args.jobs}: at least 1")
    return args


def prepare_jobs(args: argparse.Namespace) -> list[Job]:
    """The jobs, with their toy scenes on disk (two trainings must not both write them)."""
    root = args.data_root or Path(f"data/toy_val{args.num_val}")
    jobs = build_jobs(
        args.experiments,
        args.seeds,
        out=args.out,
        overrides=(f"data.toy.num_val={args.num_val}", f"data.root={quote(root)}", *args.overrides),
        compose=_compose,
    )
    data = jobs[0].config["data"]
    ensure_toy_dataset(Path(data["root"]), to_options(data["toy"], ToyOptions))
    return jobs


def _compose(overrides: Sequence[str]) -> dict[str, Any]:
    config: dict[str, Any] = to_plain(compose("train", overrides))
    return config


def study(args: argparse.Namespace) -> int:
    """Train what is not trained yet, print and write the table; returns the exit code."""
    jobs = prepare_jobs(args)
    trainings = TrainingProcesses(num_threads=max((os.cpu_count() or 1) // args.jobs, 1))
    outcomes = run_study(jobs, trainings, num_parallel=args.jobs)
    table = to_markdown(outcomes, reference=args.reference)
    write_text(args.out / "table.md", table)
    print(table, end="")
    return int(any(outcome.error is not None for outcome in outcomes))


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: trainings save first
    try:
        return study(args)
    except RefineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
