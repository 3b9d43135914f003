"""``python -m refine.download``: the official archives of COCO, complete and checked."""

from typing import Any

from refine.config.command import run_command
from refine.config.job import Job
from refine.config.settings import DownloadSettings


def _task(settings: DownloadSettings, _: Job) -> Any:
    from refine.workflows.download_dataset import (
        download,  # --help and bad settings need none of it
    )

    return download(settings)


def main() -> None:
    """Entry point of ``refine-download``."""
    run_command("download", _task)


if __name__ == "__main__":
    main()
