"""``python -m refine.download``: the official archives of COCO, complete and checked."""

from refine.config.command import run_command
from refine.workflows.download_dataset import download


def main() -> None:
    """Entry point of ``refine-download``."""
    run_command("download", lambda settings, _: download(settings))


if __name__ == "__main__":
    main()
