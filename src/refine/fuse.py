"""``python -m refine.fuse``: anyone's instance and semantic result files become panoptic ones."""

from typing import Any

from refine.config.command import run_command
from refine.config.job import Job
from refine.config.settings import FuseSettings


def _task(settings: FuseSettings, _: Job) -> Any:
    from refine.workflows.fuse_results import (
        fuse_results,  # --help and bad settings need none of it
    )

    return fuse_results(settings)


def main() -> None:
    """Entry point of ``refine-fuse``."""
    run_command("fuse", _task)


if __name__ == "__main__":
    main()
