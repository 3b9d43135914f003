"""``python -m refine.convert``: published weights and checkpoints in our own form."""

from refine.config.command import run_command
from refine.config.job import Job
from refine.config.settings import ConvertSettings
from refine.workflows.convert_weights import convert


def _task(settings: ConvertSettings, job: Job) -> None:  # noqa: ARG001 - same for all commands
    convert(settings)


def main() -> None:
    """Entry point of ``refine-convert``."""
    run_command("convert", _task)


if __name__ == "__main__":
    main()
