"""``python -m refine.export``: a checkpoint as safetensors, a torch.export program or ONNX."""

from typing import Any

from refine.config.command import run_command
from refine.config.job import Job
from refine.config.settings import ExportSettings


def _task(settings: ExportSettings, _: Job) -> Any:
    from refine.workflows.export_network import export  # --help and bad settings need none of it

    return export(settings)


def main() -> None:
    """Entry point of ``refine-export``."""
    run_command("export", _task)


if __name__ == "__main__":
    main()
