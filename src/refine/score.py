"""``python -m refine.score``: panoptic quality of COCO-panoptic result files, without a model.

It imports neither torch nor Lightning, so bad input is answered at once.
"""

from typing import Any

from refine.config.command import run_command
from refine.config.job import Job
from refine.config.settings import ScoreSettings


def _task(settings: ScoreSettings, _: Job) -> Any:
    from refine.workflows.score_results import score  # --help and bad settings need none of it

    return score(settings)["pq"]


def main() -> None:
    """Entry point of ``refine-score``."""
    run_command("score", _task)


if __name__ == "__main__":
    main()
