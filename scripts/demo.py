"""REFINE on generated scenes, part by part: baseline, + IBPP, + SOE, + UE.

    python scripts/demo.py

Trains Panoptic-FPN and REFINE side by side on the same scenes for as many steps, caches what both
predict, evaluates each part from the cache, draws. Interrupted, the same command goes on.
"""

import argparse
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from refine.atomic import write_text
from refine.config.composition import compose
from refine.config.instantiate import to_options, to_plain
from refine.errors import RefineError
from refine.options import ToyOptions
from refine.report.parts import PARTS, to_table
from refine.report.runs import read_run
from refine.report.study import Job, TrainingProcesses, build_jobs, quote, run_study
from refine.toy.dataset import ensure_toy_dataset

BASELINE, REFINE = "toy_ibpp0", "toy_refine"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    description, _, _ = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--steps", type=int, default=260, help="of both detectors")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of both, after --")
    return parser.parse_args(argv)


def demonstrate(args: argparse.Namespace) -> None:
    """Train, cache, evaluate, print."""
    jobs = prepare_jobs(args)
    trainings = TrainingProcesses(num_threads=max((os.cpu_count() or 1) // len(jobs), 1))
    for outcome in run_study(jobs, trainings, num_parallel=len(jobs)):
        if outcome.error is not None:
            raise RefineError(f"{outcome.job.name}: {outcome.error}")
    caches = [args.out / "predictions" / job.experiment for job in jobs]
    for job, cache in zip(jobs, caches, strict=True):
        save = [f"ckpt_path={quote(find_checkpoint(job))}", f"save_predictions={quote(cache)}"]
        if not (cache / "index.json").is_file():
            run_dir = f"hydra.run.dir={quote(args.out / 'saving' / job.experiment)}"
            evaluate(*save, run_dir, "trainer=cpu", "compute_ap=false")
    folder = args.out / "parts"
    evaluate(
        *("-m", "sweep=components", f"predictions={quote(caches[1])}"),
        *(f"baseline_predictions={quote(caches[0])}", f"hydra.sweep.dir={quote(folder)}"),
    )
    table = to_table([(title, read_run(folder / f"component={part}")) for part, title in PARTS])
    write_text(args.out / "table.md", table)
    print(f"\n{table}\npictures: {jobs[1].run_dir / 'pictures'}")


def prepare_jobs(args: argparse.Namespace) -> list[Job]:
    """Both trainings, with their scenes on disk."""
    shared = (f"schedule.max_steps={args.steps}", "trainer=cpu", "compute_ap=false")
    jobs = [
        job
        for name, draw in ((BASELINE, 0), (REFINE, args.pictures))
        for job in build_jobs(
            [name],
            [args.seed],
            out=args.out,
            overrides=(*shared, f"draw={draw}", *args.overrides),
            compose=_compose,
        )
    ]
    data = jobs[0].config["data"]
    ensure_toy_dataset(Path(data["root"]), to_options(data["toy"], ToyOptions))
    return jobs


def find_checkpoint(job: Job) -> Path:
    """The baseline's, or that of REFINE's last stage, which holds the detector and the head."""
    folder = job.run_dir / "occlusion" if job.experiment == REFINE else job.run_dir
    return folder / "checkpoints" / "last.ckpt"


def evaluate(*overrides: str) -> None:
    """Run ``python -m refine.evaluate``."""
    done = subprocess.run([sys.executable, "-m", "refine.evaluate", *overrides], check=False)
    if done.returncode:
        raise RefineError(f"python -m refine.evaluate {' '.join(overrides)}: did not finish")


def _compose(overrides: Any) -> dict[str, Any]:
    return dict(to_plain(compose("train", overrides)))


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        demonstrate(parse_args(argv))
    except RefineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
