"""The paper's tables beside your own runs, curves, one HTML page, and figures 2 and 5.

    python -m refine.report runs                                   # report.html: everything
    python -m refine.report runs --tables 3 5 --format latex       # tables as text
    python -m refine.report --wandb ENTITY/PROJECT --tables
    python -m refine.report --predictions CACHE --figures figures  # figures 2 and 5

RUNS are folders of runs, or folders in which runs lie. Which row of a table a run belongs to is
decided from its config.yaml; several seeds of one configuration become a mean. The page needs no
network. Its images come from the runs' pictures/ folders (draw=N), or, the worst and best of all,
from prediction caches: those that an evaluation names in its config.yaml are found by themselves.
"""

import argparse
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import refine
from refine.atomic import write_text
from refine.errors import RefineError, run_script

_FORMATS = ("markdown", "latex", "csv", "json")


def _parse_args(argv: list[str] | None) -> argparse.Namespace:
    title, _, text = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m refine.report",
        description=title,
        epilog=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("runs", nargs="*", type=Path, metavar="RUNS")
    add("--version", action="version", version=f"refine {refine.__version__}")
    add("--wandb", metavar="ENTITY/PROJECT", help="read runs from there instead")
    add("--tables", nargs="*", type=int, choices=range(1, 7), help="as text; all if none named")
    add("--format", choices=_FORMATS, default="markdown", help="format of --tables")
    add("-o", "--out", type=Path, help="file; default: report.html, of --tables standard output")
    add("--dataset", help="part of its name; default: that of most finished runs")
    add("--resamples", type=int, default=2000, help="number of the bootstrap's; 0: no intervals")
    add("--baseline", type=Path, help="run; default: the first row of table 3")
    add("--compared", type=Path, help="run; default: the last row of table 3")
    add("--images", type=int, help="worst and best images each (6), or images of --figures (4)")
    add("--predictions", type=Path, metavar="CACHE", help="cache of the compared run")
    add("--baseline-predictions", type=Path, metavar="CACHE", help="cache of the baseline")
    add("--data-root", type=Path, help="default: the caches' own")
    add("--figures", type=Path, metavar="FOLDER", help="draw figures 2 and 5 from --predictions")
    add("--erase-below", type=float, help="threshold of UE in the figures; default: the cache's")
    args = parser.parse_args(argv)
    if args.runs and args.wandb:
        parser.error("give either folders of runs or --wandb ENTITY/PROJECT")
    if not args.runs and not args.wandb and not args.figures:
        parser.error("give folders of runs, --wandb ENTITY/PROJECT or --figures FOLDER")
    if args.figures and not args.predictions:
        parser.error("--figures needs --predictions CACHE")
    return args


def fetch_wandb_runs(project: str) -> Iterable[Any]:
    """All runs of a project.

    Raises:
        RefineError: wandb is not installed, or does not answer.
    """
    try:
        import wandb
    except ImportError:
        raise RefineError(
            "--wandb needs the package wandb: pip install 'refine-panoptic[wandb]'"
        ) from None
    try:
        return list(wandb.Api().runs(project))
    except (wandb.Error, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RefineError(f"{project}: Weights & Biases does not answer: {reason}") from None


def report(args: argparse.Namespace) -> None:
    """Do what the command line asks for.

    Raises:
        RefineError: A package of the extra ``report`` is missing, or bad input.
    """
    for package in ("pandas", "jinja2", "matplotlib", "tabulate"):
        if find_spec(package) is None:
            raise RefineError(f"{package} is missing: pip install 'refine-panoptic[report]'")
    if args.figures:
        from refine.report.figure_panels import draw_figures

        places = (args.predictions, args.figures)
        number = 4 if args.images is None else args.images
        for line in draw_figures(*places, number, args.data_root, args.erase_below):
            sys.stdout.write(f"{line}\n")
    if not args.runs and not args.wandb:
        return
    from refine.report.collect import from_wandb, read_runs
    from refine.report.tables import build_tables, choose_dataset

    if args.wandb:
        runs, problems = from_wandb(fetch_wandb_runs(args.wandb), args.wandb)
    else:
        runs, problems = read_runs(args.runs)
    for line in problems:
        sys.stderr.write(f"left out: {line}\n")
    dataset = choose_dataset(runs, args.dataset)
    if args.tables is not None:
        from refine.report.table_text import FORMATS

        numbers, num_resamples = args.tables or None, args.resamples
        tables = build_tables(runs, dataset, numbers=numbers, num_resamples=num_resamples)
        text = FORMATS[args.format](tables)
        if args.out is None:
            sys.stdout.write(text)
        else:
            write_text(args.out, text)
        return
    from refine.report.page import ReportOptions, build_page

    names = ("baseline", "compared", "predictions", "baseline_predictions", "data_root")
    options = ReportOptions(
        **{name: getattr(args, name) for name in names},
        num_images=6 if args.images is None else args.images,
        num_resamples=args.resamples,
    )
    text = build_page(runs, problems, dataset, options=options)
    out = args.out or Path("report.html")
    write_text(out, text)
    sys.stdout.write(f"{out}: {len(runs)} runs, {len(text.encode()) / 1e6:.1f} MB\n")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parse_args(argv)
    return run_script(lambda: report(args))


if __name__ == "__main__":
    sys.exit(main())
