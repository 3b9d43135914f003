"""``python -m refine.convert``: published weights and checkpoints in our own form."""

from typing import Any

from refine.config.command import run_command
from refine.config.job import Job
from refine.config.settings import ConvertSettings


def _task(settings: ConvertSettings, _: Job) -> Any:
    from refine.workflows.convert_weights import convert  # --help and bad settings need none of it

    return convert(settings)


def main() -> None:
    """Entry point of ``refine-convert``."""
    run_command("convert", _task)


if __name__ == "__main__":
    main()
