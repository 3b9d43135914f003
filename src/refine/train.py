"""``python -m refine.train``: train, keep the best and last checkpoints, end with the PQ table.

``stage=`` says what: the detector (``panoptic``, the default), heads that order its instances
(``occlusion``, ``ranking``), or the whole recipe one after the other (``all``).
"""

from refine.config.command import run_command
from refine.config.job import Job
from refine.config.settings import TrainSettings


def _task(settings: TrainSettings, _: Job) -> float:
    """PQ, or the first metric of a stage that has none."""
    from refine.workflows.train_stages import train  # --help and bad settings need none of it

    metrics = train(settings)
    return float(metrics.get("pq", next(iter(metrics.values()))))


def main() -> None:
    """Entry point of ``refine-train``."""
    run_command("train", _task)


if __name__ == "__main__":
    main()
