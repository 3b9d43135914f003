"""The whole toy ablation: trainings, predictions, sweeps, the paper's tables 3 to 6, one report.

    python scripts/ablation.py [--seeds 3] [--out runs/ablation] [-- KEY=VALUE ...]

Each step is a Hydra multirun or a script of this project, printed before it starts. Interrupted,
the same command goes on: finished jobs are kept, an interrupted training resumes.
"""

import argparse
import shlex
import subprocess
import sys
import time
from pathlib import Path

from refine.errors import RefineError, run_script
from refine.report.ablation_steps import AblationSteps


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--seeds", type=int, default=1, help="number of them, from 0")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="of every training, after --"
    )
    args = parser.parse_args(argv)
    for name in ("seeds", "jobs"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} {getattr(args, name)}: at least 1")
    return args


def run(steps: AblationSteps) -> None:
    """Run every step, and print the tables.

    Raises:
        RefineError: A step has failed; those after it would lack what it makes.
    """
    start = time.monotonic()
    for step in steps.list_steps():
        minutes = (time.monotonic() - start) / 60
        print(f"[{minutes:.1f} min] {step.title}: {shlex.join(step.command[1:])}", flush=True)
        if subprocess.run(step.command, check=False).returncode:
            raise RefineError(f"{step.title}: did not finish; mended, the same command goes on")
    for title, path in steps.tables.items():
        print(f"\n# {title}\n\n{path.read_text()}")
    print(f"report: {steps.report}; {(time.monotonic() - start) / 60:.1f} minutes")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parse_args(argv)
    steps = AblationSteps(
        out=args.out,
        scripts=Path(__file__).parent,
        num_seeds=args.seeds,
        num_jobs=args.jobs,
        overrides=args.overrides,
    )
    try:
        return run_script(lambda: run(steps))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
