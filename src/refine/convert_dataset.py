"""``python -m refine.convert_dataset``: annotations in other layouts become COCO-panoptic ones."""

from typing import Any

from refine.config.command import run_command
from refine.config.job import Job
from refine.config.settings import ConvertDatasetSettings


def _task(settings: ConvertDatasetSettings, _: Job) -> Any:
    from refine.workflows.convert_annotations import (
        convert_dataset,  # --help and bad settings need none of it
    )

    return convert_dataset(settings)


def main() -> None:
    """Entry point of ``refine-convert-dataset``."""
    run_command("convert_dataset", _task)


if __name__ == "__main__":
    main()
