"""``python -m refine.check``: every violation of a COCO-panoptic dataset, and what is in it."""

from refine.config.command import run_command
from refine.workflows.check_dataset import check


def main() -> None:
    """Entry point of ``refine-check``."""
    run_command("check", lambda settings, _: check(settings))


if __name__ == "__main__":
    main()
