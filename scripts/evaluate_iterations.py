"""Panoptic quality and consensus gap of a checkpoint after each iteration of IBPP.

python scripts/evaluate_iterations.py RUN/checkpoints/best.ckpt [--images N] [--save]
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

from refine.atomic import write_text
from refine.errors import run_script
from refine.evaluation.per_iteration import evaluate_iterations
from refine.report.finished_run import ITERATIONS_NAME
from refine.workflows.evaluate_checkpoint import open_checkpoint

_COLUMNS = ("pq", "pq_things", "pq_stuff", "consensus_gap", "band_void")
_NOT_OF_AN_ITERATION = ("images_per_second", "num_images", "panoptic_only")


def evaluate(args: argparse.Namespace) -> None:
    """Print metrics of iterations 0 to T, and save them if asked to."""
    pipeline, datamodule = open_checkpoint(args.checkpoint, data_root=args.data_root)
    batches = itertools.islice(datamodule.val_dataloader(), args.images)
    rows = [
        {k: v for k, v in e.compute().metrics.items() if k not in _NOT_OF_AN_ITERATION}
        for e in evaluate_iterations(pipeline, batches, datamodule.categories)
    ]
    if args.save:
        path = args.checkpoint.parent.parent / ITERATIONS_NAME
        write_text(path, json.dumps(rows, indent=1) + "\n")
    print("| iteration | PQ | PQ things | PQ stuff | consensus gap | void in the band |")
    print("|---:|---:|---:|---:|---:|---:|")
    for number, row in enumerate(rows):
        print(f"| {number} | " + " | ".join(f"{100 * row[key]:.2f}" for key in _COLUMNS) + " |")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--images", type=int, help="the first N; default: all")
    parser.add_argument("--data-root", type=Path, help="default: the checkpoint's")
    parser.add_argument("--save", action="store_true", help=f"write RUN/{ITERATIONS_NAME}")
    return run_script(lambda: evaluate(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
