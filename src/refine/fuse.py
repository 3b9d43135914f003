"""``python -m refine.fuse``: anyone's instance and semantic result files become panoptic ones."""

from refine.config.command import run_command
from refine.workflows.fuse_results import fuse_results


def main() -> None:
    """Entry point of ``refine-fuse``."""
    run_command("fuse", lambda settings, _: fuse_results(settings))


if __name__ == "__main__":
    main()
