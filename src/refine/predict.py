"""``python -m refine.predict``: overlays, panoptic PNGs and a COCO-panoptic JSON of any images."""

from refine.config.command import run_command
from refine.workflows.predict_images import predict


def main() -> None:
    """Entry point of ``refine-predict``."""
    run_command("predict", lambda settings, _: predict(settings))


if __name__ == "__main__":
    main()
