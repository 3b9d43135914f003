"""``python -m refine.score``: panoptic quality of COCO-panoptic result files, without a model.

It imports neither torch nor Lightning, so bad input is answered at once.
"""

from refine.config.command import run_command
from refine.config.job import Job
from refine.config.settings import ScoreSettings
from refine.workflows.score_results import score


def _task(settings: ScoreSettings, job: Job) -> float:  # noqa: ARG001 - same for all commands
    return float(score(settings)["pq"])


def main() -> None:
    """Entry point of ``refine-score``."""
    run_command("score", _task)


if __name__ == "__main__":
    main()
