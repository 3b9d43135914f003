"""``python -m refine.export``: a checkpoint as safetensors, a torch.export program or ONNX."""

from refine.config.command import run_command
from refine.workflows.export_network import export


def main() -> None:
    """Entry point of ``refine-export``."""
    run_command("export", lambda settings, _: export(settings))


if __name__ == "__main__":
    main()
