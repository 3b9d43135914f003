"""``python -m refine.check``: every violation of a COCO-panoptic dataset, and what is in it."""

from typing import Any

from refine.config.command import run_command
from refine.config.job import Job
from refine.config.settings import CheckSettings


def _task(settings: CheckSettings, _: Job) -> Any:
    from refine.workflows.check_dataset import check  # --help and bad settings need none of it

    return check(settings)


def main() -> None:
    """Entry point of ``refine-check``."""
    run_command("check", _task)


if __name__ == "__main__":
    main()
