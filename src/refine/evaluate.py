"""``python -m refine.evaluate``: PQ, AP and speed of a checkpoint; PQ of cached predictions."""

from refine.config.command import run_command
from refine.config.job import Job
from refine.config.settings import EvaluateSettings


def _task(settings: EvaluateSettings, job: Job) -> float:
    from refine.runs.run_folder import RunFolder  # --help and bad settings need none of it
    from refine.workflows.evaluate_checkpoint import evaluate

    folder = RunFolder(settings.run_dir)
    status = folder.claim(settings).status  # results of another run are not overwritten
    is_known = job.sweep_dir is not None and status == "finished"
    metrics = folder.read_finished(settings) if is_known else None
    return float((metrics or evaluate(settings, prepared=job.prepared))["pq"])


def main() -> None:
    """Entry point of ``refine-evaluate``."""
    run_command("evaluate", _task)


if __name__ == "__main__":
    main()
