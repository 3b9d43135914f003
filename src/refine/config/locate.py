"""Where ``conf/`` is."""

from pathlib import Path

VERSION_BASE = "1.3"


def conf_dir() -> Path:
    """Absolute folder of the configuration: beside ``src/``, or a wheel's copy in the package."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parents[1] / "conf"
    return checkout if (checkout / "train.yaml").is_file() else package / "conf"
