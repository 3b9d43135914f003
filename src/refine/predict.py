"""``python -m refine.predict``: overlays, panoptic PNGs and a COCO-panoptic JSON of any images."""

from typing import Any

from refine.config.command import run_command
from refine.config.job import Job
from refine.config.settings import PredictSettings


def _task(settings: PredictSettings, _: Job) -> Any:
    from refine.workflows.predict_images import predict  # --help and bad settings need none of it

    return predict(settings)


def main() -> None:
    """Entry point of ``refine-predict``."""
    run_command("predict", _task)


if __name__ == "__main__":
    main()
