"""``python -m refine.convert``: published weights and checkpoints in our own form."""

from refine.config.command import run_command
from refine.workflows.convert_weights import convert


def main() -> None:
    """Entry point of ``refine-convert``."""
    run_command("convert", lambda settings, _: convert(settings))


if __name__ == "__main__":
    main()
