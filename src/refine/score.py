"""``python -m refine.score``: panoptic quality of COCO-panoptic result files, without a model.

It imports neither torch nor Lightning, so bad input is answered at once.
"""

from refine.config.command import run_command
from refine.workflows.score_results import score


def main() -> None:
    """Entry point of ``refine-score``."""
    run_command("score", lambda settings, _: score(settings)["pq"])


if __name__ == "__main__":
    main()
