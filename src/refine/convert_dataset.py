"""``python -m refine.convert_dataset``: annotations in other layouts become COCO-panoptic ones."""

from refine.config.command import run_command
from refine.workflows.convert_annotations import convert_dataset


def main() -> None:
    """Entry point of ``refine-convert-dataset``."""
    run_command("convert_dataset", lambda settings, _: convert_dataset(settings))


if __name__ == "__main__":
    main()
