"""``python -m refine.predict``: overlays, panoptic PNGs and a COCO-panoptic JSON of any images."""

from refine.config.command import run_command
from refine.config.job import Job
from refine.config.settings import PredictSettings
from refine.workflows.predict_images import predict


def _task(settings: PredictSettings, job: Job) -> None:  # noqa: ARG001 - same for all commands
    predict(settings)


def main() -> None:
    """Entry point of ``refine-predict``."""
    run_command("predict", _task)


if __name__ == "__main__":
    main()
