"""Where ``conf/`` is."""

from pathlib import Path

VERSION_BASE = "1.3"


def conf_dir() -> Path:
    """The folder of the configuration files, absolute.

    A checkout has it beside ``src/``; a wheel carries a copy inside the package. (A relative
    ``config_path`` would work for ``python -m`` but not for console scripts.)
    """
    package = Path(__file__).resolve().parents[1]
    checkout = package.parents[1] / "conf"
    return checkout if (checkout / "train.yaml").is_file() else package / "conf"
